"""kill -9 of the worker alone: its command dies with it, and its disk is no trap for later jobs."""

from __future__ import annotations

import signal

from kelpie.lifecycle import Outcome
from tests.end_to_end.patience import until
from tests.end_to_end.stage import Stage


async def test_a_command_does_not_outlive_its_worker(stage: Stage) -> None:
    """Nobody computes on without a lease: another machine has the job soon."""
    machine = stage.machine("a")
    job = await stage.submit("say starts $$; [ $KELPIE_ATTEMPT = 2 ] || exec sleep 1000")
    command = int((await stage.until_said("starts"))[0].split()[2])
    assert command in machine.commands()
    machine.send(signal.SIGKILL)
    await until("the command is gone", lambda: not machine.commands())
    stage.machine("b")
    await stage.completed(job)
    assert await stage.outcomes(job) == [Outcome.LOST, Outcome.COMPLETED]
