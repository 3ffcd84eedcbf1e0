"""A coordinator that says what a test scripted, and the real `kelpie worker` to talk to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

KEY = "a-key-of-the-tests"
PATIENCE_S = 30.0
JOB_ID = "00000001-0000-4000-8000-000000000000"


def python_job(script: str, **fields: Any) -> dict[str, Any]:
    """A job that runs a Python script, as `GET /work` hands it out."""
    return {
        "id": JOB_ID,
        "user_id": "u1",
        "status": "running",
        "created": "2026-01-01T00:00:00.000Z",
        "command": sys.executable,
        "arguments": ["-u", "-c", script],
        "container_group_id": "default",
        "heartbeat_interval": 1,
        "sync": {},
        "attempt": 1,
        **fields,
    }


class Coordinator:
    """Hands out `jobs` in turn, and keeps whatever workers say."""

    def __init__(self, *, is_legacy: bool = False) -> None:
        self.url = ""
        self.is_legacy = is_legacy
        self.jobs: list[dict[str, Any]] = []
        self.claims: list[dict[str, str]] = []
        self.heartbeats: list[dict[str, Any]] = []
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.signals = 0
        self.failing: dict[str, int] = {}
        """Route → status that it answers with instead."""
        self.lost_to: str | None = None
        """The job's status once the attempt is not live any more."""
        self.answering = asyncio.Event()
        """Cleared, a job that was handed out is still on its way."""
        self.answering.set()
        self._stirred = asyncio.Event()

    def submit(self, job: dict[str, Any]) -> None:
        """Let the next poll find a job."""
        self.jobs.append(job)
        self._stirred.set()

    def stir(self) -> None:
        """Answer whoever waits."""
        self._stirred.set()

    def lose(self, job_status: str) -> None:
        """End the lease: "canceled", or "pending" for given to another."""
        self.lost_to = job_status
        self._stirred.set()

    def reports_of(self, kind: str) -> list[dict[str, Any]]:
        """Every report of a kind, oldest first."""
        return [body for name, body in self.reports if name == kind]

    def app(self) -> web.Application:
        """The routes of a worker."""
        app = web.Application()
        app.router.add_get("/work", self._work)
        app.router.add_post("/jobs/{id}/heartbeat", self._heartbeat)
        if not self.is_legacy:
            app.router.add_get("/jobs/{id}/signal", self._signal)
        for kind in ("completed", "failed") if self.is_legacy else ("completed", "failed", "interrupted"):
            app.router.add_post(f"/jobs/{{id}}/{kind}", self._report)
        return app

    async def _work(self, request: web.Request) -> web.Response:
        self.claims.append(dict(request.query))
        if request.headers.get("X-Kelpie-Key") != KEY:
            return web.json_response({"error": "Forbidden", "message": "Invalid API Key"}, status=403)
        if "work" in self.failing:
            return web.json_response({}, status=self.failing["work"])
        if not self.jobs and not self.is_legacy:
            await self._wait(float(request.query.get("wait", 0)))
        handed_out = [self.jobs.pop(0)] if self.jobs else []
        await self.answering.wait()
        return web.json_response(handed_out)

    async def _wait(self, seconds: float) -> None:
        self._stirred.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()

    async def _heartbeat(self, request: web.Request) -> web.Response:
        self.heartbeats.append(await request.json())
        if "heartbeat" in self.failing:
            return web.json_response({}, status=self.failing["heartbeat"])
        if self.lost_to and self.is_legacy:
            return web.json_response({"status": "canceled"})
        return self._lost() if self.lost_to else web.json_response({"status": "running"})

    async def _signal(self, request: web.Request) -> web.Response:
        self.signals += 1
        if not self.lost_to:
            await self._wait(float(request.query.get("wait", 0)))
        return web.json_response({"status": self.lost_to or "running", "live": not self.lost_to})

    async def _report(self, request: web.Request) -> web.Response:
        kind = request.path.rpartition("/")[2]
        self.reports.append((kind, await request.json()))
        if kind in self.failing:
            return web.json_response({}, status=self.failing[kind])
        return self._lost() if self.lost_to else web.json_response({"message": "ok"}, status=202)

    def _lost(self) -> web.Response:
        body = {"type": "lease-lost", "title": "Conflict", "detail": "Not live.", "job_status": self.lost_to}
        return web.json_response(body, status=409)


@asynccontextmanager
async def coordinating(*, is_legacy: bool = False) -> AsyncIterator[Coordinator]:
    """Serve a Coordinator on a free port."""
    coordinator = Coordinator(is_legacy=is_legacy)
    runner = web.AppRunner(coordinator.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    coordinator.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield coordinator
    finally:
        coordinator.answering.set()
        coordinator.stir()
        await runner.cleanup()


class Worker:
    """A real `kelpie worker` process, with directories of its own below `home`."""

    def __init__(self, process: asyncio.subprocess.Process, home: Path) -> None:
        self.process, self.home = process, home

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it logged, as far as it is JSON."""
        lines = (self.home / "stderr").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def stdout(self) -> str:
        """What came out of its stdout."""
        return (self.home / "stdout").read_text()

    def said(self, event: str) -> bool:
        """Whether it logged that event."""
        return any(entry["event"] == event for entry in self.log)

    async def leave(self, signum: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(signum)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for the exit code."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()


@asynccontextmanager
async def working(url: str, home: Path, **environment: str) -> AsyncIterator[Worker]:
    """Run a worker for the server at `url`; it is killed at the end if need be."""
    home.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a test's own directory
    settings = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("KELPIE_", "SALAD_"))},
        "KELPIE_API_URL": url,
        "KELPIE_API_KEY": KEY,
        "KELPIE_MACHINE_ID": "machine-1",
        "KELPIE_CONTAINER_GROUP_ID": "default",
        "KELPIE_SHUTDOWN_GRACE_S": "10",
        "INPUT_DIR": str(home / "input"),
        "OUTPUT_DIR": str(home / "output"),
        "CHECKPOINT_DIR": str(home / "checkpoint"),
        **environment,
    }
    with (home / "stdout").open("wb") as stdout, (home / "stderr").open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kelpie", "worker", cwd=home, env=settings, stdout=stdout, stderr=stderr
        )
    try:
        yield Worker(process, home)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - other processes bring it about
            await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def pid_in(file: Path) -> int:
    """The process id that a script wrote to a file."""
    return int(file.read_text())


def has_text(file: Path) -> bool:
    """Whether a file is there and not empty."""
    return file.is_file() and file.stat().st_size > 0
