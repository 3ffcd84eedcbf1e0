"""Promise 2: one job has one holder."""

from __future__ import annotations

import signal

from kelpie.lifecycle import JobStatus, Outcome
from tests.end_to_end.stage import Stage


async def test_of_two_workers_exactly_one_runs_a_job(stage: Stage) -> None:
    """Whoever asks at once, each job is started once, has one attempt, and its outputs are in the bucket."""
    for machine in [stage.machine("a"), stage.machine("b")]:
        await machine.event("worker_started")
    script = 'say starts "$N"; put "output/$N" done'
    jobs = [
        await stage.submit(script, environment={"N": str(number)}, sync=stage.sync(after="output"))
        for number in range(6)
    ]
    for job in jobs:
        assert (await stage.ended(job)).status is JobStatus.COMPLETED
        assert await stage.outcomes(job) == [Outcome.COMPLETED]
    assert sorted(line.split()[2] for line in stage.said("starts")) == list("012345")
    assert stage.stored() == {f"output/{number}": b"done" for number in range(6)}


async def test_a_job_is_not_given_to_a_worker_that_has_gone(stage: Stage) -> None:
    """One was killed and one told to stop while they polled: the job waits for a worker that is there."""
    killed, stopped = stage.machine("killed"), stage.machine("stopped")
    both = [await stage.submit("say starts; hold go") for _ in range(2)]
    await stage.until_said("starts", 2)
    stage.release("go")
    await stage.completed(*both)
    killed.kill()
    stopped.send(signal.SIGTERM)
    await stopped.exit_code()
    job = await stage.submit("true", heartbeat_interval=30)
    stage.machine("new")
    await stage.completed(job)
    assert await stage.outcomes(job) == [Outcome.COMPLETED]
