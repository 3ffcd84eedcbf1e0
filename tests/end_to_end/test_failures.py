"""A command that fails is tried again elsewhere, up to `max_failures` times, and says why."""

from __future__ import annotations

import signal

from kelpie.lifecycle import JobStatus, Outcome, Reason
from tests.end_to_end.stage import Stage


async def test_a_command_that_does_not_exist_fails_the_job_and_not_the_worker(stage: Stage) -> None:
    """Each machine fails with the reason spawn, the second time is the last, and both run the next job."""
    stage.machine("a")
    stage.machine("b")
    job = await stage.submit(command="no-such-command", max_failures=2)
    ended = await stage.ended(job)
    assert (ended.status, ended.num_failures, ended.reason) == (JobStatus.FAILED, 2, Reason.SPAWN)
    attempts = await stage.attempts(job)
    assert {attempt.machine_id for attempt in attempts} == {"a", "b"}
    assert [(attempt.outcome, attempt.reason) for attempt in attempts] == [(Outcome.FAILED, Reason.SPAWN)] * 2
    assert all("'no-such-command'" in str(attempt.detail) for attempt in attempts)
    both = [await stage.submit("say starts; hold go") for _ in range(2)]
    assert {line.split()[1] for line in await stage.until_said("starts", 2)} == {"a", "b"}
    stage.release("go")
    await stage.completed(*both)


async def test_a_script_that_fails_leaves_its_exit_code_and_last_words(stage: Stage) -> None:
    """Both are on the attempt, and another machine tries again."""
    stage.machine("a")
    stage.machine("b")
    job = await stage.submit('[ "$KELPIE_ATTEMPT" = 2 ] || { echo to stdout; echo to stderr >&2; exit 3; }')
    await stage.completed(job)
    first, second = await stage.attempts(job)
    assert (first.outcome, first.reason, first.exit_code) == (Outcome.FAILED, Reason.EXIT, 3)
    assert sorted(str(first.log_tail).splitlines()) == ["to stderr", "to stdout"]
    assert (second.outcome, second.exit_code) == (Outcome.COMPLETED, None)
    assert first.machine_id != second.machine_id
    assert (await stage.client.job(job.id)).num_failures == 1


async def test_a_command_that_dies_of_a_signal_has_failed(stage: Stage) -> None:
    """A crash is not an interruption: the attempt names the signal, and it counts."""
    stage.machine("a")
    job = await stage.submit("kill -SEGV $$", max_failures=1)
    ended = await stage.ended(job)
    (attempt,) = await stage.attempts(job)
    assert (ended.status, attempt.reason) == (JobStatus.FAILED, Reason.SIGNAL)
    assert attempt.signal == signal.SIGSEGV.name


async def test_a_script_that_fails_keeps_its_checkpoint_and_delivers_no_output(stage: Stage) -> None:
    """What a failed attempt had reached is in the bucket for the next one; half-made outputs are not."""
    stage.machine("a")
    job = await stage.submit(
        "put checkpoint/step 5; put output/half x; exit 1",
        max_failures=1,
        sync=stage.sync(checkpoint="checkpoint", after="output"),
    )
    assert (await stage.ended(job)).status is JobStatus.FAILED
    assert stage.stored() == {"checkpoint/step": b"5"}
