"""The server as a process: how it ends, and what a sudden end cannot take away."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kelpie_server import ServerProcess
from tests.server.api import GROUP, Api


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_server_well(fresh_server: ServerProcess, end: signal.Signals) -> None:
    """Polls are answered, not cut, and the exit code is 0."""
    account = fresh_server.new_account()
    async with Api(fresh_server.url, account.key) as api:
        polls = [asyncio.create_task(api.claim(f"m{number}", wait=50)) for number in range(20)]
        job = await api.submit("elsewhere")
        await api.claim("holder", "elsewhere")
        signaled = asyncio.create_task(
            api.get(f"/jobs/{job['id']}/signal?attempt=1&machine_id=holder&wait=50")
        )
        for _ in range(10):
            await api.get("/users/me")

        fresh_server_process(fresh_server).send_signal(end)
        code = await asyncio.to_thread(fresh_server.wait)

        assert code == 0
        assert [await poll for poll in polls] == [None] * 20
        assert (await signaled).body == {"status": "running", "live": True}
    assert "Traceback" not in fresh_server.log.read_text()


async def test_what_was_there_is_there_after_a_restart(fresh_server: ServerProcess) -> None:
    """On the same port, with the same keys, and a running job goes on."""
    account = fresh_server.new_account()
    async with Api(fresh_server.url, account.key) as api:
        job = await api.submit()
        await api.claim("m1")
        before = fresh_server.pid
        await asyncio.to_thread(fresh_server.restart)

        assert fresh_server.pid != before
        assert (await api.report(job["id"], "heartbeat", "m1", attempt=1)).body == {"status": "running"}


async def test_a_server_that_was_stopped_takes_no_job_away(fresh_server: ServerProcess) -> None:
    """Although far more than a lease went by while it stood still."""
    account = fresh_server.new_account()
    async with Api(fresh_server.url, account.key) as api:
        job = await api.submit(heartbeat_interval=1)
        await api.claim("m1")
        process = fresh_server_process(fresh_server)

        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(3.5)  # longer than a lease; nothing can be observed of a process that is stopped
        process.send_signal(signal.SIGCONT)

        assert await api.claim("m2") is None
        assert (await api.report(job["id"], "heartbeat", "m1", attempt=1)).body == {"status": "running"}


async def test_a_second_server_on_the_same_database_ends_at_once(fresh_server: ServerProcess) -> None:
    """With a sentence, not a trace, and without harm to the first."""
    second = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "kelpie", "serve", "--port", "0", "--database", str(fresh_server.database)],
        cwd=fresh_server.directory,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert second.returncode != 0
    assert f"process {fresh_server.pid}" in " ".join(second.stderr.split())
    assert "Traceback" not in second.stderr
    fresh_server.call("GET", "/readyz")


@dataclass
class Acknowledged:
    """What the server said it had done."""

    submitted: list[str] = field(default_factory=list)
    claimed: list[tuple[str, int, str]] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    unanswered: int = 0


async def _submit_on(api: Api, said: Acknowledged) -> None:
    while True:
        said.submitted.append((await api.submit())["id"])


async def _work_on(api: Api, machine: str, said: Acknowledged) -> None:
    while True:
        job = await api.claim(machine, wait=1)
        if job is None:
            continue
        said.claimed.append((job["id"], job["attempt"], machine))
        beat = await api.report(job["id"], "heartbeat", machine, attempt=job["attempt"])
        assert beat.body == {"status": "running"}, beat
        answer = await api.report(job["id"], "completed", machine, attempt=job["attempt"])
        assert answer.status == 200
        said.completed.append(job["id"])


async def _until_cut_off(work: Any, said: Acknowledged) -> None:
    try:
        await work
    except (aiohttp.ClientError, OSError):
        said.unanswered += 1
    except AssertionError as error:
        # A server that is going down refuses what is new, and does not do it.
        if "status=503" not in str(error):
            raise


async def test_nothing_that_was_acknowledged_is_lost_when_the_server_is_killed(
    fresh_server: ServerProcess,
) -> None:
    """And nothing happens twice: three times over, under submissions, claims and completions."""
    account = fresh_server.new_account()
    said = Acknowledged()
    for _ in range(3):
        await _traffic_until(fresh_server.kill, fresh_server, account.key, said)
        await asyncio.to_thread(fresh_server.restart)

    assert len(said.completed) > 100
    jobs = _rows(fresh_server.database, "SELECT job_id, status FROM jobs")
    status = dict(jobs)
    assert len(status) == len(jobs)
    assert not set(said.submitted) - set(status)
    assert {status[job_id] for job_id in said.completed} == {"completed"}
    attempts = _rows(
        fresh_server.database,
        "SELECT job_id, attempts.attempt, attempts.machine_id FROM attempts JOIN jobs USING (job_seq)",
    )
    assert not set(said.claimed) - set(attempts)
    # Jobs are only ever lost to a lease of a minute, so each was handed out once.
    assert len({job_id for job_id, _, _ in attempts}) == len(attempts)
    live = "SELECT job_seq FROM attempts WHERE outcome IS NULL"
    running = "SELECT job_seq FROM jobs WHERE status = 'running'"
    assert sorted(_rows(fresh_server.database, live)) == sorted(_rows(fresh_server.database, running))
    assert len(status) <= len(said.submitted) + said.unanswered
    assert _rows(fresh_server.database, "PRAGMA integrity_check") == [("ok",)]


async def _traffic_until(end: Callable[[], Any], server: ServerProcess, key: str, said: Acknowledged) -> Any:
    enough = len(said.completed) + random.randint(40, 90)
    async with Api(server.url, key) as api, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(_until_cut_off(_submit_on(api, said), said))
        for number in range(8):
            group.create_task(_until_cut_off(_work_on(api, f"m{number}", said), said))
        while len(said.completed) < enough:  # noqa: ASYNC110 - the tasks that count are cut off, not joined
            await asyncio.sleep(0.01)
        return await asyncio.to_thread(end)


async def test_a_server_that_is_ended_under_load_keeps_what_it_acknowledged(
    fresh_server: ServerProcess,
) -> None:
    """It finishes what it took and says so with its exit code."""
    account = fresh_server.new_account()
    said = Acknowledged()

    code = await _traffic_until(fresh_server.terminate, fresh_server, account.key, said)

    assert code == 0
    status = dict(_rows(fresh_server.database, "SELECT job_id, status FROM jobs"))
    assert not set(said.submitted) - set(status)
    assert {status[job_id] for job_id in said.completed} == {"completed"}
    assert "Traceback" not in fresh_server.log.read_text()


async def test_sixty_four_connections_at_once_meet_no_fault(fresh_server: ServerProcess) -> None:
    """Submitting, listing, claiming, reporting, canceling, without one 5xx."""
    account = fresh_server.new_account()
    seen: dict[int, int] = {}

    async def hammer(api: Api, number: int) -> None:
        machine = f"m{number}"
        for turn in range(8):
            answers = [await api.post("/jobs", {"command": "x", "container_group_id": GROUP})]
            answers.append(await api.get(f"/work?machine_id={machine}&container_group_id={GROUP}"))
            for job in answers[-1].body:
                report = "completed" if turn % 2 else "failed"
                answers.append(await api.report(job["id"], "heartbeat", machine, attempt=job["attempt"]))
                answers.append(await api.report(job["id"], report, machine, attempt=job["attempt"]))
            answers.append(await api.get("/jobs?page_size=5"))
            answers.append(await api.delete(f"/jobs/{answers[0].body['id']}"))
            for answer in answers:
                seen[answer.status] = seen.get(answer.status, 0) + 1

    async with Api(fresh_server.url, account.key) as api, asyncio.TaskGroup() as group:
        for number in range(64):
            group.create_task(hammer(api, number))

    assert set(seen) <= {200, 202, 409}
    assert sum(seen.values()) > 64 * 8 * 4


def fresh_server_process(server: ServerProcess) -> subprocess.Popen[bytes]:
    """Reach the process itself, to send it signals."""
    process = server._process  # noqa: SLF001 - only these tests need more than its verbs
    assert process is not None
    return process


def _rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
