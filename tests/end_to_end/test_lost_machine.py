"""A machine that vanishes without a word costs the work since its last checkpoint, and no more."""

from __future__ import annotations

from kelpie.lifecycle import JobStatus, Outcome
from tests.end_to_end.stage import Stage

# Counts to 6, one checkpoint a step; the first attempt gets no further than 3.
COUNT = """
step=$(cat checkpoint/step 2>/dev/null || echo 0)
say starts "$step" "$KELPIE_RESTORED"
while [ "$step" -lt 6 ]; do
    [ "$KELPIE_ATTEMPT" = 1 ] && [ "$step" = 3 ] && hold never
    step=$((step + 1))
    put checkpoint/step "$step"
done
put output/result "$step"
"""


async def test_the_next_machine_goes_on_from_the_checkpoint_of_one_that_was_killed(stage: Stage) -> None:
    """After kill -9 of all that ran, and with its disk gone, another fetches the checkpoint and completes."""
    stage.machine("a")
    stage.machine("b")
    job = await stage.submit(COUNT, sync=stage.sync(checkpoint="checkpoint", after="output"))
    await stage.until_stored("checkpoint/step", b"3")
    lost = stage.holder(await stage.until_running(job))
    lost.lose()
    done = await stage.ended(job)
    assert done.status is JobStatus.COMPLETED
    first, second = await stage.attempts(job)
    assert (first.outcome, second.outcome) == (Outcome.LOST, Outcome.COMPLETED)
    assert first.machine_id == lost.name != second.machine_id
    assert stage.said("starts") == [f"1 {lost.name} 0 false", f"2 {second.machine_id} 3 true"]
    assert stage.stored() == {"checkpoint/step": b"6", "output/result": b"6"}
    assert (done.num_failures, done.num_interruptions) == (0, 1)
