"""Promise 4 and 14: storage that is away for a while costs nothing but time."""

from __future__ import annotations

import signal

from kelpie.lifecycle import JobStatus, Outcome
from tests.end_to_end.link import Link
from tests.end_to_end.patience import until
from tests.end_to_end.stage import Stage


async def test_a_job_waits_for_storage_that_is_away_at_its_end(stage: Stage) -> None:
    """It is not completed before its outputs are stored, and not failed either: it keeps its lease."""
    async with Link(stage.s3.url) as link:
        machine = stage.machine("a", AWS_ENDPOINT_URL=link.url)
        job = await stage.submit(
            "say starts; hold go; put checkpoint/step 1; put output/result done",
            sync=stage.sync(checkpoint="checkpoint", after="output"),
        )
        await stage.until_said("starts")
        link.cut()
        stage.release("go")
        await machine.event("ended")
        await until("it tries to store", lambda: link.refused >= 3)
        assert (await stage.client.job(job.id)).status is JobStatus.RUNNING
        link.mend()
        await stage.completed(job)
        assert await stage.outcomes(job) == [Outcome.COMPLETED]
        assert stage.stored() == {"checkpoint/step": b"1", "output/result": b"done"}


async def test_a_job_waits_for_storage_that_is_away_at_its_start(stage: Stage) -> None:
    """The command is not started without its inputs, and with them as soon as they can be fetched."""
    stage.put("input/data", b"1")
    async with Link(stage.s3.url) as link:
        link.cut()
        stage.machine("a", AWS_ENDPOINT_URL=link.url)
        job = await stage.submit("say starts $(cat input/data)", sync=stage.sync(before="input"))
        await until("it tries to fetch", lambda: link.refused >= 3)
        assert stage.said("starts") == []
        link.mend()
        await stage.completed(job)
        assert stage.said("starts") == ["1 a 1"]


async def test_patience_with_storage_ends_when_the_job_says(stage: Stage) -> None:
    """Past `upload_patience_s` the attempt fails with the reason upload; it is never completed."""
    async with Link(stage.s3.url) as link:
        stage.machine("a", AWS_ENDPOINT_URL=link.url)
        job = await stage.submit(
            "say starts; hold go; put output/result done",
            sync=stage.sync(after="output"),
            upload_patience_s=1,
            max_failures=1,
        )
        await stage.until_said("starts")
        link.cut()
        stage.release("go")
        ended = await stage.ended(job)
        (attempt,) = await stage.attempts(job)
        assert (ended.status, attempt.outcome, attempt.reason) == (JobStatus.FAILED, Outcome.FAILED, "upload")
        assert stage.stored() == {}


async def test_a_notice_during_the_last_upload_gives_the_job_back(stage: Stage) -> None:
    """The command was done, its outputs are not stored: the job is another machine's to complete."""
    async with Link(stage.s3.url) as link:
        leaving = stage.machine("a", AWS_ENDPOINT_URL=link.url, KELPIE_SHUTDOWN_GRACE_S="3")
        script = "say starts; hold go; put output/result done"
        job = await stage.submit(script, sync=stage.sync(after="output"))
        await stage.until_said("starts")
        link.cut()
        stage.release("go")
        await until("it tries to store", lambda: link.refused >= 2)
        leaving.send(signal.SIGTERM)
        assert await leaving.exit_code() == 0
        assert await stage.outcomes(job) == [Outcome.INTERRUPTED]
        stage.machine("b")
        await stage.completed(job)
        assert stage.stored() == {"output/result": b"done"}


async def test_a_cancel_is_heard_while_storage_is_away(stage: Stage) -> None:
    """Neither a fetch nor a delivery that waits keeps the worker from the next job."""
    stage.put("input/data", b"1")
    async with Link(stage.s3.url) as link:
        machine = stage.machine("a", AWS_ENDPOINT_URL=link.url)
        link.cut()
        fetching = await stage.submit("say starts", sync=stage.sync(before="input"))
        await until("it tries to fetch", lambda: link.refused >= 2)
        await stage.client.cancel(fetching.id)
        delivering = await stage.submit("put output/result x", sync=stage.sync(after="output"))
        await machine.event("ended")
        await stage.client.cancel(delivering.id)
        await stage.completed(await stage.submit("true"))
        assert stage.said("starts") == []
        assert stage.stored() == {"input/data": b"1"}
