"""What never ends a job, what does in the end, and whose jobs a worker gets."""

from __future__ import annotations

from kelpie.contract import RetryRule
from kelpie.lifecycle import JobStatus, Outcome, Reason
from tests.end_to_end.stage import Stage, open_stage

INTERRUPT = [RetryRule(exit_codes=[75], action="interrupt")]


async def test_interruptions_without_any_progress_end_a_job(stage: Stage) -> None:
    """A job that never gets anywhere does not occupy machines for ever, and says so."""
    stage.machine("a")
    job = await stage.submit("exit 75", retry_rules=INTERRUPT, max_interruptions=3)
    ended = await stage.ended(job)
    assert (ended.status, ended.reason, ended.num_failures) == (JobStatus.FAILED, Reason.NO_PROGRESS, 0)
    assert await stage.outcomes(job) == [Outcome.INTERRUPTED] * 3


async def test_interruptions_with_progress_are_free(stage: Stage) -> None:
    """A job that stores a checkpoint each time may be interrupted as often as it takes."""
    stage.machine("a")
    script = """
        put checkpoint/step "$(($(cat checkpoint/step 2>/dev/null || echo 0) + 1))"
        [ "$(cat checkpoint/step)" = 5 ] || exit 75
    """
    job = await stage.submit(
        script, retry_rules=INTERRUPT, max_interruptions=2, sync=stage.sync(checkpoint="checkpoint")
    )
    await stage.completed(job)
    assert await stage.outcomes(job) == [Outcome.INTERRUPTED] * 4 + [Outcome.COMPLETED]
    assert stage.stored() == {"checkpoint/step": b"5"}


async def test_a_worker_gets_the_jobs_of_its_own_user_only(stage: Stage) -> None:
    """Another user's job in a container group of the same name, though older, is not offered to it."""
    async with open_stage(stage.server, stage.s3, stage.folder / "other") as other:
        theirs = await other.submit("say starts")
        ours = await stage.submit("say starts")
        stage.machine("a")
        await stage.completed(ours)
        assert (await other.client.job(theirs.id)).status is JobStatus.PENDING
