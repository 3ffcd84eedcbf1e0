"""A bucket that does not exist fails the attempt in words, and never counts as completed."""

from __future__ import annotations

from kelpie.contract import Sync
from kelpie.lifecycle import JobStatus, Outcome, Reason
from tests.end_to_end.stage import Stage

NOWHERE = "no-such-bucket"


async def _failed_as(stage: Stage, sync: Sync, reason: Reason) -> None:
    job = await stage.submit('say starts; put "data/result" done', sync=sync, max_failures=1)
    ended = await stage.ended(job)
    (attempt,) = await stage.attempts(job)
    assert (ended.status, ended.num_failures) == (JobStatus.FAILED, 1)
    assert (attempt.outcome, attempt.reason) == (Outcome.FAILED, reason)
    assert NOWHERE in str(attempt.detail)


async def test_without_its_inputs_the_command_is_not_started(stage: Stage) -> None:
    """The attempt fails with the reason download, and its message names the bucket."""
    stage.machine("a")
    await _failed_as(stage, stage.sync(before="data", bucket=NOWHERE), Reason.DOWNLOAD)
    assert stage.said("starts") == []


async def test_a_job_whose_outputs_cannot_be_stored_is_never_completed(stage: Stage) -> None:
    """The attempt fails with the reason upload, whether at the end or while it runs, and names the bucket."""
    stage.machine("a")
    await _failed_as(stage, stage.sync(after="data", bucket=NOWHERE), Reason.UPLOAD)
    await _failed_as(stage, stage.sync(during="data", bucket=NOWHERE), Reason.UPLOAD)
    assert len(stage.said("starts")) == 2


async def test_a_prefix_without_objects_is_no_error(stage: Stage) -> None:
    """The first start of a job has no checkpoint yet: its directory is there, empty."""
    stage.machine("a")
    job = await stage.submit(
        "ls -A checkpoint > after/listed", sync=stage.sync(checkpoint="checkpoint", after="after")
    )
    await stage.completed(job)
    assert stage.stored() == {"after/listed": b""}
