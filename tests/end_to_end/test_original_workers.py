"""Workers of the original Kelpie go on working, beside ours and under the same rules."""

from __future__ import annotations

import asyncio

from kelpie.lifecycle import JobStatus, Outcome
from tests.end_to_end.original_worker import OriginalWorker
from tests.end_to_end.stage import Stage


def _original(stage: Stage, machine_id: str = "old") -> OriginalWorker:
    return OriginalWorker(stage.server.url, stage.worker_key, machine_id)


async def test_an_original_worker_runs_a_job_to_its_completion(stage: Stage) -> None:
    """It polls, beats past its first lease, and reports: the job is completed with one attempt."""
    async with _original(stage) as worker:
        assert await worker.poll() is None
        job = await stage.submit("anything")
        claimed = await worker.poll_until_work()
        assert (claimed["id"], claimed["status"]) == (job.id, "running")
        for _ in range(3):
            assert await worker.heartbeat(job.id) == "running"
            await asyncio.sleep(claimed["heartbeat_interval"])
        await worker.completed(job.id)
        done = await stage.client.job(job.id)
        (attempt,) = await stage.attempts(job)
        assert (done.status, done.machine_id, done.num_heartbeats) == (JobStatus.COMPLETED, "old", 3)
        assert (attempt.outcome, attempt.exit_code, attempt.version) == (Outcome.COMPLETED, None, None)


async def test_an_original_worker_hears_of_a_cancel_on_its_heartbeat(stage: Stage) -> None:
    """It is the only stop signal it knows; a report that comes late all the same changes nothing."""
    async with _original(stage) as worker:
        job = await stage.submit("anything")
        claimed = await worker.poll_until_work()
        beating = asyncio.create_task(worker.beat_until_canceled(claimed))
        await stage.until_job(job, "had a heartbeat", lambda seen: seen.num_heartbeats)
        assert (await stage.kelpie("cancel", job.id)).code == 0
        await beating
        await worker.completed(job.id)
        await worker.failed(job.id)
        assert (await stage.client.job(job.id)).status is JobStatus.CANCELED
        assert await stage.outcomes(job) == [Outcome.CANCELED]


async def test_an_original_worker_that_lost_its_job_to_ours_is_told_to_stop(stage: Stage) -> None:
    """After its lease ran out our worker takes over, and what the old one still says is of no effect."""
    async with _original(stage) as worker:
        job = await stage.submit("say starts; hold go")
        await worker.poll_until_work()
        stage.machine("new")
        assert await stage.until_said("starts") == ["2 new "]
        assert await worker.heartbeat(job.id) == "canceled"
        await worker.completed(job.id)
        await worker.failed(job.id)
        running = await stage.client.job(job.id)
        assert (running.status, running.machine_id, running.num_failures) == (JobStatus.RUNNING, "new", 0)
        stage.release("go")
        await stage.completed(job)
        assert await stage.outcomes(job) == [Outcome.LOST, Outcome.COMPLETED]


async def test_original_workers_and_ours_share_a_queue(stage: Stage) -> None:
    """Each job has one holder; what the old one fails, ours tries again, and the other way round."""
    stage.machine("new")
    script = 'say starts "$N"; [ "$N" != bad-here ]'
    async with _original(stage) as worker:
        first = await stage.submit(script, environment={"N": "bad-here"})
        await stage.until_job(first, "failed here", lambda seen: seen.num_failures == 1)
        assert (await worker.poll_until_work())["id"] == first.id
        assert await worker.heartbeat(first.id) == "running"
        await worker.completed(first.id)
        stage.machines[0].kill()
        second = await stage.submit(script, environment={"N": "bad-there"})
        assert (await worker.poll_until_work())["id"] == second.id
        await worker.failed(second.id)
        stage.machine("newer")
        await stage.completed(first, second)
        assert [attempt.machine_id for attempt in await stage.attempts(first)] == ["new", "old"]
        assert [attempt.machine_id for attempt in await stage.attempts(second)] == ["old", "newer"]
        assert await stage.outcomes(second) == [Outcome.FAILED, Outcome.COMPLETED]
