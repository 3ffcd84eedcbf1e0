"""Faults around the server: it stands still, answers are lost on the way, the disk is full or damaged."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.kelpie_server import ServerProcess
from tests.server.api import Answer, Api

_CHUNK = 1 << 16
_MIB = 1 << 20
_HEARTBEATS = 3


async def test_a_holder_that_keeps_trying_keeps_its_job_while_the_server_stands_still(
    fresh_server: ServerProcess,
) -> None:
    """Although another machine polls all the while, and the lease is long over."""
    account = fresh_server.new_account()
    async with Api(fresh_server.url, account.key) as holder, Api(fresh_server.url, account.key) as other:
        job = await holder.submit(heartbeat_interval=1)
        await holder.claim("m1")
        os.kill(fresh_server.pid, signal.SIGSTOP)
        beats = asyncio.create_task(_keep_trying(holder, job["id"]))
        polls = asyncio.create_task(_poll_until(other, beats))

        await asyncio.sleep(3.5)  # longer than a lease; nothing can be observed of a process that is stopped
        os.kill(fresh_server.pid, signal.SIGCONT)

        assert set(await beats) == {"running"}
        assert set(await polls) == {None}
        assert (await holder.job(job["id"]))["attempt"] == 1


async def _keep_trying(api: Api, job_id: str) -> list[str]:
    said = []
    for _ in range(_HEARTBEATS):
        said.append((await api.report(job_id, "heartbeat", "m1", attempt=1)).body["status"])
        await asyncio.sleep(0.5)
    return said


async def _poll_until(api: Api, over: asyncio.Task[list[str]]) -> list[object]:
    got = [await api.claim("m2")]
    while not over.done():
        got.append(await api.claim("m2"))
        await asyncio.sleep(0.05)
    return got


@asynccontextmanager
async def _losing_answers(server_url: str) -> AsyncIterator[str]:
    # Requests get through; as soon as the answer comes, the connection is cut instead.
    target = urlsplit(server_url)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)
        far_writer.write(await reader.read(_CHUNK))
        await far_reader.read(1)
        writer.transport.abort()
        far_writer.transport.abort()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def test_a_claim_whose_answer_was_lost_gets_the_same_job_again(shared_server: ServerProcess) -> None:
    """With the same claim id; another job would be held by nobody for a whole lease."""
    account = shared_server.new_account()
    async with Api(shared_server.url, account.key) as api:
        first = await api.submit()
        second = await api.submit()
        async with _losing_answers(shared_server.url) as url, Api(url, account.key) as unlucky:
            with pytest.raises(aiohttp.ClientError):
                await unlucky.claim("m1", claim_id="c1")

        again = await api.claim("m1", claim_id="c1")

        assert (again["id"], again["attempt"]) == (first["id"], 1)
        assert (await api.job(second["id"]))["status"] == "pending"


async def test_a_submission_whose_answer_was_lost_makes_its_jobs_once(shared_server: ServerProcess) -> None:
    """With the same Idempotency-Key."""
    account = shared_server.new_account()
    body = [{"command": name, "container_group_id": "g"} for name in ("a", "b")]
    async with Api(shared_server.url, account.key) as api:
        async with _losing_answers(shared_server.url) as url, Api(url, account.key) as unlucky:
            with pytest.raises(aiohttp.ClientError):
                await unlucky.post("/jobs/batch", body, Idempotency_Key="k1")

        again = await api.post("/jobs/batch", body, Idempotency_Key="k1")

        assert again.headers["idempotent-replayed"] == "true"
        there = (await api.get("/jobs?asc=true")).body["jobs"]
        assert [job["id"] for job in there] == [job["id"] for job in again.body]


async def test_a_report_whose_answer_was_lost_counts_once(shared_server: ServerProcess) -> None:
    """And is answered as if it came for the first time."""
    account = shared_server.new_account()
    async with Api(shared_server.url, account.key) as api:
        job = await api.submit()
        await api.claim("m1")
        async with _losing_answers(shared_server.url) as url, Api(url, account.key) as unlucky:
            with pytest.raises(aiohttp.ClientError):
                await unlucky.report(job["id"], "failed", "m1", attempt=1)

        again = await api.report(job["id"], "failed", "m1", attempt=1)

        assert again.status == 202
        assert (await api.job(job["id"]))["num_failures"] == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "kelpie-test", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting takes root")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def _fill(disk: Path, *, leaving: int) -> Path:
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with ballast.open("wb") as file, suppress(OSError):
        file.write(b"x" * max(free - leaving, 0))
    return ballast


async def test_a_full_disk_loses_nothing_and_no_lease(small_disk: Path) -> None:
    """Submissions hear 507; the running job is there, and its holder's, when there is room again."""
    with ServerProcess(small_disk, environment={"KELPIE_MIN_FREE_DISK_MIB": "0"}) as server:
        account = server.new_account()
        async with Api(server.url, account.key) as api:
            job = await api.submit(heartbeat_interval=1)
            await api.claim("m1")
            ballast = _fill(small_disk, leaving=0)
            refused = await _submit_until_refused(api)
            beats = {(await api.report(job["id"], "heartbeat", "m1", attempt=1)).status for _ in range(20)}
            done = await api.report(job["id"], "completed", "m2", attempt=1)
            ballast.unlink()

            assert refused.status == 507
            assert beats <= {200, 507}
            assert done.status in {409, 507}
            assert (await api.report(job["id"], "heartbeat", "m1", attempt=1)).status == 200
            assert (await api.report(job["id"], "completed", "m1", attempt=1)).status == 200
            assert (await api.submit())["status"] == "pending"
    assert _integrity(server.database) == "ok"


async def _submit_until_refused(api: Api) -> Answer:
    big = {"command": "x" * 200_000, "container_group_id": "g"}
    while (answer := await api.post("/jobs", big)).status == 202:
        pass
    return answer


async def test_a_disk_that_is_nearly_full_still_takes_heartbeats_and_completions(small_disk: Path) -> None:
    """Only what is new is refused."""
    with ServerProcess(small_disk, environment={"KELPIE_MIN_FREE_DISK_MIB": "2"}) as server:
        account = server.new_account()
        async with Api(server.url, account.key) as api:
            job = await api.submit()
            await api.claim("m1")
            _fill(small_disk, leaving=_MIB)
            while (await api.get("/readyz")).status == 200:  # noqa: ASYNC110 - the server looks when it looks
                await asyncio.sleep(0.1)
            refused = await api.post("/jobs", {"command": "x", "container_group_id": "g"})

            assert refused.status == 507
            assert (await api.report(job["id"], "heartbeat", "m1", attempt=1)).status == 200
            assert (await api.report(job["id"], "completed", "m1", attempt=1)).status == 200


async def test_a_database_damaged_in_the_middle_is_refused_at_the_start(fresh_server: ServerProcess) -> None:
    """With a sentence that says what to do, before a worker is handed anything."""
    account = fresh_server.new_account()
    async with Api(fresh_server.url, account.key) as api:
        batch = [{"command": "x" * 500, "container_group_id": "g"}] * 300
        await api.post("/jobs/batch", batch)
    fresh_server.stop()
    size = fresh_server.database.stat().st_size
    with fresh_server.database.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(b"\xa5" * 8192)

    started = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "kelpie", "serve", "--port", "0", "--database", str(fresh_server.database)],
        cwd=fresh_server.directory,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert started.returncode == 1
    said = " ".join(started.stderr.split())
    assert "damaged" in said
    assert "Restore a backup" in said
    assert "Traceback" not in said


def _integrity(database: Path) -> str:
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()
