"""A server that says what a test scripted, and the real `kelpie` as a process to ask it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

KEY = "a-key-of-the-tests"
PATIENCE_S = 30.0


def job_object(number: int = 1, **fields: Any) -> dict[str, Any]:
    """A job as the API shows it; `number` makes its id."""
    return {
        "id": f"{number:08x}-0000-4000-8000-000000000000",
        "user_id": "u1",
        "status": "pending",
        "created": "2026-01-01T00:00:00.000Z",
        "command": "python",
        "arguments": ["train.py"],
        "container_group_id": "default",
        **fields,
    }


def attempt_object(number: int = 1, **fields: Any) -> dict[str, Any]:
    """An attempt as the API shows it."""
    return {
        "attempt": number,
        "machine_id": f"machine-{number}",
        "started": "2026-01-01T00:00:00.000Z",
        "ended": "2026-01-01T00:01:30.000Z",
        "outcome": "completed",
        "exit_code": None,
        "signal": None,
        "reason": None,
        "detail": None,
        "num_heartbeats": 3,
        "bytes_in": 0,
        "bytes_out": 0,
        "compute_s": 90.0,
        "version": None,
        "log_tail": None,
        **fields,
    }


class Coordinator:
    """A server that says what a test scripted: `GET /jobs/{id}` answers a job's states one by one."""

    def __init__(self) -> None:
        self.url = ""
        self.states: dict[str, list[dict[str, Any]]] = {}
        self.attempts: dict[str, list[dict[str, Any]]] = {}
        self.explanations: dict[str, dict[str, Any]] = {}
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.answers_lost = 0
        self.bodies: list[Any] = []
        self.requests: list[str] = []
        self.asked = asyncio.Event()

    def add(self, *states: dict[str, Any]) -> str:
        """Know a job by the states it goes through; its id."""
        job_id: str = states[0]["id"]
        self.states[job_id] = list(states)
        return job_id

    def app(self) -> web.Application:
        """The routes of `api.md` that the command line uses."""
        app = web.Application(middlewares=[self._admit])
        app.router.add_post("/jobs", self._submit)
        app.router.add_post("/jobs/batch", self._submit)
        app.router.add_get("/jobs", self._list)
        app.router.add_get("/jobs/{id}", self._get)
        app.router.add_get("/jobs/{id}/attempts", self._attempts)
        app.router.add_get("/jobs/{id}/explain", self._explain)
        app.router.add_delete("/jobs/{id}", self._cancel)
        app.router.add_post("/jobs/{id}/retry", self._retry)
        return app

    @web.middleware
    async def _admit(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        self.asked.set()
        if request.headers.get("X-Kelpie-Key") != KEY:
            return _error(403, "Forbidden", "Invalid API Key")
        if self.answers_lost:
            self.answers_lost -= 1
            assert request.transport is not None
            request.transport.abort()
        if self.refusal:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        response: web.StreamResponse = await handler(request)
        return response

    async def _submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        specs = body if isinstance(body, list) else [body]
        jobs = [
            job_object(number + 1, **{name: value for name, value in spec.items() if value is not None})
            for number, spec in enumerate(specs)
        ]
        for job in jobs:
            self.states.setdefault(job["id"], [job])
        return web.json_response(jobs if isinstance(body, list) else jobs[0], status=202)

    async def _list(self, request: web.Request) -> web.Response:
        del request
        jobs = [states[0] for states in self.states.values()]
        return web.json_response({"_count": len(jobs), "jobs": jobs})

    async def _get(self, request: web.Request) -> web.Response:
        states = self.states.get(request.match_info["id"])
        if not states:
            return _error(404, "Not Found", "Job not found")
        return web.json_response(states.pop(0) if len(states) > 1 else states[0])

    async def _attempts(self, request: web.Request) -> web.Response:
        return web.json_response({"attempts": self.attempts.get(request.match_info["id"], [])})

    async def _explain(self, request: web.Request) -> web.Response:
        found = self.explanations.get(request.match_info["id"])
        return _error(404, "Not Found", "Route Not Found") if found is None else web.json_response(found)

    async def _cancel(self, request: web.Request) -> web.Response:
        states = self.states.get(request.match_info["id"])
        if not states:
            return _error(404, "Not Found", "Job not found")
        if states[0]["status"] in {"completed", "failed"}:
            return _error(409, "Conflict", f"Job already {states[0]['status']}")
        return web.json_response({"message": "Job canceled"}, status=202)

    async def _retry(self, request: web.Request) -> web.Response:
        states = self.states.get(request.match_info["id"])
        if not states:
            return _error(404, "Not Found", "Job not found")
        if states[0]["status"] not in {"canceled", "failed"}:
            return _error(409, "Conflict", "The job is pending")
        return web.json_response({**states[0], "status": "pending"}, status=202)


def _error(status: int, title: str, message: str) -> web.Response:
    return web.json_response({"error": title, "message": message}, status=status)


class Result:
    """How a command ended: exit code, what it printed, and what it said."""

    def __init__(self, code: int | None, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out.decode()
        self.err = err.decode()

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


class Kelpie:
    """Runs `python -m kelpie` in a directory of its own with an environment of its own."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = environment

    async def __call__(self, *args: str, stdin: str = "") -> Result:
        """Run it to its end."""
        async with self.started(*args) as process:
            out, err = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE_S)
            return Result(process.returncode, out, err)

    @asynccontextmanager
    async def started(self, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start it; it is killed if it is still there in the end."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kelpie", *args),
            cwd=self.directory,
            env=self.environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
