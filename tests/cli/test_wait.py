"""`kelpie wait`: how it ends, what it says, and what it survives."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.cli.scripted import Coordinator, Kelpie, job_object

ENDINGS = [("completed", 0), ("failed", 1), ("canceled", 7)]


@pytest.mark.parametrize(("status", "code"), ENDINGS)
async def test_wait_ends_as_the_job_ended(
    kelpie: Kelpie, coordinator: Coordinator, status: str, code: int
) -> None:
    """The exit code tells a script how the job ended."""
    job_id = coordinator.add(
        job_object(status="running", attempt=1, machine_id="m1"), job_object(status=status, attempt=1)
    )

    result = await kelpie("wait", job_id)

    assert (result.code, result.out) == (code, "")
    assert "attempt 1 on m1" in result.err
    assert status in result.err


async def test_of_several_jobs_the_worst_decides(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """A failure outweighs a cancel, and a cancel a completion."""
    ids = [
        coordinator.add(job_object(number, status=status))
        for number, (status, _) in enumerate(ENDINGS, start=1)
    ]

    assert (await kelpie("wait", *ids)).code == 1
    assert (await kelpie("wait", ids[0], ids[2])).code == 7


async def test_wait_prints_the_jobs_when_asked_to(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """With -o the jobs as they ended are data on stdout."""
    job_id = coordinator.add(job_object(status="completed"))

    result = await kelpie("wait", "-o", "json", job_id)

    assert result.json["status"] == "completed"


async def test_a_status_is_told_once_per_change(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """Polling the same state again says nothing new."""
    waiting = job_object(status="pending")
    job_id = coordinator.add(waiting, waiting, waiting, job_object(status="completed"))

    result = await kelpie("wait", job_id)

    assert result.err.count("pending") == 1
    assert result.err.count("completed") == 1


async def test_wait_outlives_a_server_that_drops_connections(
    kelpie: Kelpie, coordinator: Coordinator
) -> None:
    """A restart in the middle costs a note on stderr, not the wait."""
    job_id = coordinator.add(job_object(status="running"), job_object(status="completed"))
    coordinator.answers_lost = 2

    result = await kelpie("wait", job_id)

    assert result.code == 0
    assert "Trying again." in result.err


async def test_the_time_limit_leaves_the_job_alone(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """After --timeout the exit code is 124 and nothing was canceled."""
    job_id = coordinator.add(job_object(status="running", machine_id="m1", attempt=1))

    result = await kelpie("wait", "--timeout", "0.5", job_id)

    assert result.code == 124
    assert "the jobs go on" in result.err
    assert not [request for request in coordinator.requests if request.startswith("DELETE")]


async def test_an_interrupt_leaves_the_job_alone(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """Ctrl-C ends the wait with 130 and says that the job goes on."""
    job_id = coordinator.add(job_object(status="running", machine_id="m1", attempt=1))

    async with kelpie.started("wait", job_id) as process:
        await asyncio.wait_for(coordinator.asked.wait(), 30)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()

    assert process.returncode == 130
    assert "Stopped waiting; the jobs go on." in err.decode()
    assert "Traceback" not in err.decode()
    assert not [request for request in coordinator.requests if request.startswith("DELETE")]


async def test_an_unknown_job_is_not_waited_for(kelpie: Kelpie) -> None:
    """An id nobody has ends with 3."""
    result = await kelpie("wait", "0" * 36)

    assert (result.code, result.err) == (3, "Job not found.\n")
