"""kill -9 of the worker alone, and a new one on the same disk: nothing of the old job reaches the next."""

from __future__ import annotations

import signal

from kelpie.contract import Sync, SyncRule
from kelpie.lifecycle import Outcome, Reason
from tests.end_to_end.patience import until
from tests.end_to_end.stage import BUCKET, Stage

# Longer than a test's patience: whoever has the job again did not wait for the lease.
LONG_S = 300


async def test_a_killed_jobs_files_do_not_reach_the_next_job_and_it_need_not_wait_for_its_lease(
    stage: Stage,
) -> None:
    """Another prefix on the same directory starts from nothing; the first job goes on from its checkpoint."""
    machine = stage.machine("a")
    first = await stage.submit(
        'say first "$(cat checkpoint/*)"; put checkpoint/old first; [ $KELPIE_ATTEMPT = 2 ] || hold never',
        sync=stage.sync(checkpoint="checkpoint"),
        heartbeat_interval=LONG_S,
    )
    await stage.until_stored("checkpoint/old", b"first")
    machine.send(signal.SIGKILL)
    await until("the command is gone", lambda: not machine.commands())
    prefix = f"{stage.prefix}other/"
    rules = [
        SyncRule(bucket=BUCKET, prefix=prefix, local_path="checkpoint", direction=direction)
        for direction in ("download", "upload")
    ]
    second = await stage.submit(
        'say second "[$(ls -A checkpoint)]"; put checkpoint/new second',
        sync=Sync(before=rules[:1], during=rules[1:]),
        priority=1,
    )
    stage.machine("a")
    await stage.completed(second, first)
    assert stage.said("second") == ["1 a []"]
    assert [line.strip() for line in stage.said("first")] == ["1 a", "2 a first"]
    assert stage.stored() == {"checkpoint/old": b"first", "other/new": b"second"}
    lost, done = await stage.attempts(first)
    assert (lost.outcome, lost.reason) == (Outcome.INTERRUPTED, Reason.WORKER_FAULT)
    assert done.outcome is Outcome.COMPLETED


async def test_what_a_command_had_started_does_not_outlive_the_next_worker(stage: Stage) -> None:
    """A program that a shell runs in the background lives on alone; it is gone before its job runs again."""
    old = stage.machine("a")
    job = await stage.submit(
        """
        if [ $KELPIE_ATTEMPT = 1 ]; then sleep 1000 & say starts $!; wait; fi
        # What was killed and is nobody's to reap keeps its number, but not its command line.
        say again "[$(tr '\\0' ' ' < /proc/$(cut -d ' ' -f 3 "$SHARED/starts")/cmdline)]"
        """,
        heartbeat_interval=LONG_S,
    )
    program = int((await stage.until_said("starts"))[0].split()[2])
    old.send(signal.SIGKILL)
    await until("only the program is left", lambda: old.commands() == {program})
    stage.machine("a")
    await stage.completed(job)
    assert stage.said("again") == ["2 a []"]
    assert await stage.outcomes(job) == [Outcome.INTERRUPTED, Outcome.COMPLETED]
    assert not old.commands()
