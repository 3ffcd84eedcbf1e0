"""SIGTERM to the worker: the machine goes away, and the job goes back with its last checkpoint."""

from __future__ import annotations

import signal

from kelpie.lifecycle import JobStatus, Outcome, Reason
from tests.end_to_end.stage import Stage

# Writes what it has when it is told to stop and, as many scripts do, exits with 0.
POLITE = """
if [ -e checkpoint/step ]; then
    put output/result "from $(cat checkpoint/step)"
    exit 0
fi
trap 'put checkpoint/step 7; exit 0' TERM
put checkpoint/step 1
say starts
hold never
"""


async def test_a_script_that_stops_politely_on_a_notice_is_not_completed(stage: Stage) -> None:
    """Its last checkpoint is in the bucket, the job is given back, and another worker completes it."""
    leaving = stage.machine("a")
    job = await stage.submit(POLITE, sync=stage.sync(checkpoint="checkpoint", after="output"))
    await stage.until_said("starts")
    leaving.send(signal.SIGTERM)
    assert await leaving.exit_code() == 0
    given_back = await stage.client.job(job.id)
    assert (given_back.status, given_back.num_failures) == (JobStatus.PENDING, 0)
    assert stage.stored() == {"checkpoint/step": b"7"}
    stage.machine("b")
    await stage.completed(job)
    first, second = await stage.attempts(job)
    assert (first.outcome, first.reason) == (Outcome.INTERRUPTED, Reason.NOTICE)
    assert second.outcome is Outcome.COMPLETED
    assert stage.stored()["output/result"] == b"from 7"


async def test_an_idle_worker_that_is_told_to_stop_exits_with_0(stage: Stage) -> None:
    """There is nothing to give back: SIGTERM and SIGINT both end it, in the middle of its poll."""
    told = {signal.SIGTERM: stage.machine("a"), signal.SIGINT: stage.machine("b")}
    for signum, machine in told.items():
        await machine.event("worker_started")
        machine.send(signum)
    assert [await machine.exit_code() for machine in told.values()] == [0, 0]


async def test_a_worker_that_is_interrupted_twice_gives_its_job_back(stage: Stage) -> None:
    """The second SIGINT means now: the command is stopped, the job interrupted, the exit code 0."""
    machine = stage.machine("a")
    job = await stage.submit("say starts; hold never")
    await stage.until_said("starts")
    machine.send(signal.SIGINT)
    await machine.event("draining")
    machine.send(signal.SIGINT)
    assert await machine.exit_code() == 0
    (attempt,) = await stage.attempts(job)
    assert (attempt.outcome, attempt.reason) == (Outcome.INTERRUPTED, Reason.DRAIN)


async def test_a_worker_that_drains_finishes_its_job_first(stage: Stage) -> None:
    """SIGINT once: the current job completes, then the worker exits; the next job is not begun."""
    machine = stage.machine("a")
    job = await stage.submit("say starts; hold go")
    await stage.until_said("starts")
    waiting = await stage.submit("say starts")
    machine.send(signal.SIGINT)
    await machine.event("draining")
    stage.release("go")
    assert await machine.exit_code() == 0
    await stage.completed(job)
    assert (await stage.client.job(waiting.id)).status is JobStatus.PENDING


# So that even a script that is held up by a busy computer writes more often than files settle.
SLOW_TO_STORE = {"FILE_WATCHER_STABILITY_CHECK_MS": "250", "FILE_WATCHER_MAX_WAIT_MS": "600000"}
STUBBORN = """
trap '' TERM
if [ "$KELPIE_ATTEMPT" = 2 ]; then put output/found "$(cat checkpoint/model)"; exit 0; fi
put checkpoint/model good
hold written
while :; do printf half > checkpoint/model; say writes; sleep 0.02; done
"""


async def test_a_half_written_file_of_a_killed_command_does_not_replace_a_good_one(stage: Stage) -> None:
    """Promise 9: a command that had to be killed in the middle of writing leaves the older checkpoint."""
    leaving = stage.machine("a", KELPIE_SHUTDOWN_GRACE_S="4", **SLOW_TO_STORE)
    job = await stage.submit(
        STUBBORN, stop_grace_s=0.5, sync=stage.sync(checkpoint="checkpoint", after="output")
    )
    await stage.until_stored("checkpoint/model", b"good")
    stage.release("written")
    await stage.until_said("writes")
    leaving.send(signal.SIGTERM)
    assert await leaving.exit_code() == 0
    assert stage.stored() == {"checkpoint/model": b"good"}
    stage.machine("b")
    await stage.completed(job)
    assert await stage.outcomes(job) == [Outcome.INTERRUPTED, Outcome.COMPLETED]
    assert stage.stored()["output/found"] == b"good"
