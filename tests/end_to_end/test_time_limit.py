"""`timeout_s` limits one attempt, and blames no machine."""

from __future__ import annotations

from kelpie.lifecycle import Outcome, Reason
from tests.end_to_end.stage import Stage


async def test_an_attempt_past_its_time_limit_fails_and_bans_nobody(stage: Stage) -> None:
    """The command is stopped, the checkpoint stays, and the only machine there is may try again."""
    stage.machine("a")
    script = "[ -e checkpoint/step ] && exit 0; put checkpoint/step 1; hold never"
    job = await stage.submit(script, timeout_s=0.7, sync=stage.sync(checkpoint="checkpoint"))
    await stage.completed(job)
    first, second = await stage.attempts(job)
    assert (first.outcome, first.reason) == (Outcome.FAILED, Reason.TIMEOUT)
    assert "0.7 s" in str(first.detail)
    assert (second.outcome, second.machine_id) == (Outcome.COMPLETED, "a")
    assert (await stage.client.job(job.id)).num_failures == 1
