"""Promises 3 and 8: a machine that was away too long changes nothing, unless nobody took its job since."""

from __future__ import annotations

import asyncio

from kelpie.lifecycle import JobStatus, Outcome
from tests.end_to_end.link import Link
from tests.end_to_end.patience import until
from tests.end_to_end.stage import Stage

_LONG_ENOUGH_TO_BE_STORED_S = 1.0

FROZEN = """
if [ "$KELPIE_ATTEMPT" = 1 ]; then
    put checkpoint/owner 1
    say first
    hold thawed
    put checkpoint/owner zombie; put checkpoint/late zombie; put output/result zombie
    say zombie
    exit 0
fi
say second "$(cat checkpoint/owner)"
put checkpoint/owner 2
hold go
put output/result 2
"""


async def test_a_machine_that_wakes_after_its_lease_changes_nothing(stage: Stage) -> None:
    """Its files reach no object, its report no job; and it takes the next job as if nothing had been."""
    stage.machine("a")
    stage.machine("b")
    job = await stage.submit(FROZEN, sync=stage.sync(checkpoint="checkpoint", after="output"))
    await stage.until_stored("checkpoint/owner", b"1")
    zombie = stage.holder(await stage.until_running(job))
    zombie.freeze()
    assert (await stage.until_said("second"))[0].endswith(" 1")
    await stage.until_stored("checkpoint/owner", b"2")
    stage.release("thawed")
    zombie.thaw()
    settled = await zombie.event("settled")
    assert (settled["why"], settled["report"]) == ("lease-lost", None)
    running = await stage.client.job(job.id)
    assert (running.status, running.attempt) == (JobStatus.RUNNING, 2)
    stage.release("go")
    await stage.completed(job)
    assert await stage.outcomes(job) == [Outcome.LOST, Outcome.COMPLETED]
    assert stage.stored() == {"checkpoint/owner": b"2", "output/result": b"2"}
    stage.holder(await stage.client.job(job.id)).kill()
    await stage.completed(following := await stage.submit("say following"))
    assert (await stage.client.job(following.id)).machine_id == zombie.name


async def test_a_machine_that_wakes_after_its_job_was_completed_changes_nothing(stage: Stage) -> None:
    """The outputs of the attempt that completed stay, and so does the job."""
    stage.machine("a")
    stage.machine("b")
    stage.release("go")
    job = await stage.submit(FROZEN, sync=stage.sync(checkpoint="checkpoint", after="output"))
    await stage.until_stored("checkpoint/owner", b"1")
    zombie = stage.holder(await stage.until_running(job))
    zombie.freeze()
    await stage.completed(job)
    stage.release("thawed")
    zombie.thaw()
    assert (await zombie.event("settled"))["report"] is None
    assert await stage.outcomes(job) == [Outcome.LOST, Outcome.COMPLETED]
    assert (await stage.client.job(job.id)).status is JobStatus.COMPLETED
    assert stage.stored() == {"checkpoint/owner": b"2", "output/result": b"2"}


async def test_a_partition_that_cost_the_lease_costs_no_work_when_nobody_took_the_job(stage: Stage) -> None:
    """Cut off, the machine computes on and writes nothing; then the same attempt is revived and completes."""
    async with Link(stage.server.url) as link:
        stage.machine("a", url=link.url)
        script = """
            put checkpoint/step 1; hold cut; put checkpoint/step 2; say wrote; hold go; put output/result done
        """
        job = await stage.submit(script, sync=stage.sync(checkpoint="checkpoint", after="output"))
        await stage.until_stored("checkpoint/step", b"1")
        link.cut()
        await stage.until_job(job, "is lost", lambda seen: seen.status is JobStatus.PENDING)
        assert await stage.outcomes(job) == [Outcome.LOST]
        stage.release("cut")
        await stage.until_said("wrote")
        # Without the fence it would be in the bucket well within this time.
        await asyncio.sleep(_LONG_ENOUGH_TO_BE_STORED_S)
        assert stage.stored() == {"checkpoint/step": b"1"}
        link.mend()
        await stage.until_stored("checkpoint/step", b"2")
        revived = await stage.client.job(job.id)
        assert (revived.status, revived.attempt) == (JobStatus.RUNNING, 1)
        stage.release("go")
        await stage.completed(job)
        assert await stage.outcomes(job) == [Outcome.COMPLETED]
        assert len(stage.said("wrote")) == 1
        assert stage.stored() == {"checkpoint/step": b"2", "output/result": b"done"}


async def test_a_command_that_ends_during_a_partition_is_completed_after_it(stage: Stage) -> None:
    """Its outputs wait for the lease, its report for the server."""
    async with Link(stage.server.url) as link:
        machine = stage.machine("a", url=link.url)
        job = await stage.submit(
            "say starts; hold cut; put output/result done", sync=stage.sync(after="output")
        )
        await stage.until_said("starts")
        link.cut()
        await stage.until_job(job, "is lost", lambda seen: seen.status is JobStatus.PENDING)
        stage.release("cut")
        await machine.event("ended")
        link.mend()
        await stage.completed(job)
        assert await stage.outcomes(job) == [Outcome.COMPLETED]
        assert stage.stored() == {"output/result": b"done"}


LARGE = """
if [ "$KELPIE_ATTEMPT" = 1 ]; then
    put checkpoint/small 1; hold large
    head -c 20000000 /dev/zero > .new; mv .new checkpoint/model; hold never
fi
put checkpoint/model 2; say second; hold go
"""


async def test_an_upload_under_way_when_the_machine_was_suspended_is_not_finished(stage: Stage) -> None:
    """Half of it was sent when the lease ran out; what the next machine stored since stays."""
    async with Link(stage.s3.url) as link:
        zombie = stage.machine("a", AWS_ENDPOINT_URL=link.url)
        job = await stage.submit(LARGE, sync=stage.sync(checkpoint="checkpoint"))
        await stage.until_stored("checkpoint/small", b"1")
        link.stall_after(1_000_000)
        stage.release("large")
        await until("the upload is under way", lambda: link.is_stalled)
        zombie.freeze()
        stage.machine("b")
        await stage.until_stored("checkpoint/model", b"2")
        link.mend()
        zombie.thaw()
        assert (await zombie.event("settled"))["why"] == "lease-lost"
        stage.release("go")
        await stage.completed(job)
        assert stage.stored() == {"checkpoint/small": b"1", "checkpoint/model": b"2"}
