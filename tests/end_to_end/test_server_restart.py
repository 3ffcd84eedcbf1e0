"""Promises 1 and 7: the death of the server costs no running job."""

from __future__ import annotations

import asyncio
import os
import signal

from kelpie.lifecycle import Outcome
from tests.end_to_end.patience import until
from tests.end_to_end.stage import Stage


async def test_a_job_goes_on_when_the_server_is_killed_and_comes_back(own_stage: Stage) -> None:
    """One job runs through it, one ends while the server is away, one waits: each has one attempt."""
    stage = own_stage
    machines = [stage.machine("a"), stage.machine("b")]
    through = await stage.submit("say starts; hold late", sync=stage.sync(after="through"))
    meanwhile = await stage.submit(
        "say starts; hold early; put meanwhile/x 1", sync=stage.sync(after="meanwhile")
    )
    await stage.until_said("starts", 2)
    waiting = await stage.submit("say next")
    following = asyncio.create_task(stage.kelpie("wait", through.id))
    stage.server.kill()
    for machine in machines:
        await machine.event("heartbeat_not_accepted")
    stage.release("early")
    ran_meanwhile = next(machine for machine in machines if machine.disk.joinpath("meanwhile").exists())
    await ran_meanwhile.event("report_not_answered")
    stage.server.start()
    await stage.completed(meanwhile, waiting)
    stage.release("late")
    await stage.completed(through)
    assert (await following).code == 0
    for job in (through, meanwhile, waiting):
        assert await stage.outcomes(job) == [Outcome.COMPLETED]
    assert len(stage.said("starts")) == 2
    assert stage.stored() == {"meanwhile/x": b"1"}


async def test_a_server_that_was_suspended_takes_no_job_from_its_holder(own_stage: Stage) -> None:
    """Stopped for longer than the lease, with another worker waiting: the time it was away does not count."""
    stage = own_stage
    stage.machine("a")
    stage.machine("b")
    job = await stage.submit("say starts; hold go")
    await stage.until_said("starts")
    holder = stage.holder(await stage.until_running(job))
    os.kill(stage.server.pid, signal.SIGSTOP)
    await until(
        "more than a lease without an answer", lambda: len(holder.events("heartbeat_unanswered")) >= 2
    )
    os.kill(stage.server.pid, signal.SIGCONT)
    before = (await stage.client.job(job.id)).num_heartbeats
    await stage.until_job(job, "beats again", lambda seen: seen.num_heartbeats >= before + 2)
    stage.release("go")
    await stage.completed(job)
    assert await stage.outcomes(job) == [Outcome.COMPLETED]
    assert len(stage.said("starts")) == 1
