"""What the demo shows, step by step, each seen before it is told."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click
from msgspec import Struct

from kelpie.cli.demo.stage import BUCKET, Process, Stage
from kelpie.client import Client
from kelpie.contract import Attempt, Job, JobSpec, Sync, SyncRule
from kelpie.errors import KelpieError, TransferFailed
from kelpie.lifecycle import JobStatus, Outcome
from kelpie.sync import S3, S3Bucket

_Seen = TypeVar("_Seen")
STEPS = 24
STEP_S = 0.5
_KILL_AFTER_STEP = 8
_HEARTBEAT_S = 1
_PATIENCE_S = 60.0
_LOOK_S = 0.1
_CHECKPOINT = "run-1/checkpoint/"
_OUTPUT = "run-1/output/"


class _Teller:
    """Prints the story with the seconds since it began."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self._start:5.1f} s  {text}")


class _Cast(Struct, frozen=True):
    """Who takes part, once all have started."""

    stage: Stage
    client: Client
    bucket: S3Bucket
    machines: dict[str, Process]
    say: _Teller


async def tell_story(stage: Stage) -> None:
    """Run the demo; raises KelpieError naming the first thing that was not as promised."""
    say = _Teller()
    say("starting an S3 server, a Kelpie server and two workers, each a process of its own")
    stage.start_storage()
    stage.start_server()
    machines = {name: stage.start_machine(name) for name in ("machine-a", "machine-b")}
    storage = stage.storage
    async with (
        Client(stage.server_url, stage.admin_key) as client,
        S3(endpoint_url=storage.url, credentials=(storage.access_key, storage.secret_key)) as s3,
    ):
        cast = _Cast(stage, client, s3.bucket(BUCKET), machines, say)
        job = await _submit(cast)
        first, step = await _lose_the_machine(cast, job)
        await _see_it_go_on(cast, job, first, step)
        await _verify(cast, job, first, step)


async def _submit(cast: _Cast) -> Job:
    script = str(shutil.copy(Path(__file__).with_name("train.py"), cast.stage.folder))
    checkpoint = SyncRule(bucket=BUCKET, prefix=_CHECKPOINT, local_path="checkpoint", direction="download")
    spec = JobSpec(
        command=sys.executable,
        arguments=[script, str(STEPS), str(STEP_S)],
        container_group_id="demo",
        name="demo",
        heartbeat_interval=_HEARTBEAT_S,
        sync=Sync(
            before=[checkpoint],
            during=[_upload(_CHECKPOINT, "checkpoint")],
            after=[_upload(_OUTPUT, "output")],
        ),
    )
    job = await cast.client.submit(spec)
    shown = shlex.join(["python", Path(script).name, *job.arguments[1:]])
    cast.say(f"submitted job {job.id[:8]}: {shown}")
    cast.say(f"         its checkpoint directory is kept in s3://{BUCKET}/{_CHECKPOINT} while it runs")
    return job


def _upload(prefix: str, local_path: str) -> SyncRule:
    return SyncRule(bucket=BUCKET, prefix=prefix, local_path=local_path, direction="upload")


async def _lose_the_machine(cast: _Cast, job: Job) -> tuple[str, int]:
    async def claimed() -> str | None:
        seen = await cast.client.job(job.id)
        return seen.machine_id if seen.status is JobStatus.RUNNING else None

    machine = await _until("a machine takes the job", claimed)
    cast.say(f"{machine} took it and starts from step 0")

    async def far_enough() -> int | None:
        state = await _fetch(cast, f"{_CHECKPOINT}state.json")
        return state["step"] if state and state["step"] >= _KILL_AFTER_STEP else None

    step = await _until("checkpoints arrive in the bucket", far_enough)
    cast.say(f"step {step} is in the bucket; now KILLING {machine} (kill -9, and its disk is gone)")
    await asyncio.to_thread(cast.stage.lose_machine, cast.machines[machine])
    return machine, step


async def _see_it_go_on(cast: _Cast, job: Job, first: str, step: int) -> None:
    async def taken_over() -> Job | None:
        seen = await cast.client.job(job.id)
        return seen if seen.attempt > 1 and seen.status is not JobStatus.PENDING else None

    second = await _until("another machine takes over", taken_over)
    silence_s = 2 * _HEARTBEAT_S
    cast.say(
        f"the server heard nothing from {first} for {silence_s} s and gave the job to {second.machine_id}"
    )

    async def resumed() -> dict[str, Any] | None:
        state = await _fetch(cast, f"{_CHECKPOINT}state.json")
        return state if state and len(state["starts"]) > 1 else None

    state = await _until("the second machine's first checkpoint", resumed)
    from_step = state["starts"][1]["from_step"]
    _check(from_step >= step, f"{second.machine_id} started from step {from_step}, not from step {step}")
    cast.say(f"{second.machine_id} fetched the checkpoint and goes on from step {from_step}, not from 0")


async def _verify(cast: _Cast, job: Job, first: str, step: int) -> None:
    async def ended() -> Job | None:
        seen = await cast.client.job(job.id)
        return seen if seen.status not in {JobStatus.PENDING, JobStatus.RUNNING} else None

    done = await _until("the job ends", ended)
    _check(done.status is JobStatus.COMPLETED, f"the job ended {done.status} ({done.reason})")
    attempts = (await cast.client.attempts(job.id)).attempts
    _check(
        [attempt.outcome for attempt in attempts] == [Outcome.LOST, Outcome.COMPLETED],
        f"the attempts ended {[attempt.outcome for attempt in attempts]}",
    )
    _check(attempts[0].machine_id == first != attempts[1].machine_id, "one machine had both attempts")
    result = await _fetch(cast, f"{_OUTPUT}result.json")
    wanted = STEPS * (STEPS + 1) // 2
    _check(result is not None and result["total"] == wanted, f"the result in the bucket is {result}")
    cast.say("completed: every output was stored and confirmed before the server was told")
    await _sum_up(cast, attempts, step)


async def _sum_up(cast: _Cast, attempts: list[Attempt], step: int) -> None:
    click.echo("\nWhat happened:")
    for attempt in attempts:
        click.echo(f"  attempt {attempt.attempt} on {attempt.machine_id}: {attempt.outcome}")
    click.echo("\nWhat lies in the bucket now:")
    async for found in cast.bucket.list(""):
        click.echo(f"  s3://{BUCKET}/{found.key}  {found.size} bytes")
    click.echo(
        f"\nThe sum of steps 1 to {STEPS} is right although the machine vanished at step {step}: "
        "only the work since that checkpoint was done again."
    )


async def _fetch(cast: _Cast, key: str) -> dict[str, Any] | None:
    try:
        info = await cast.bucket.head(key)
        if info is None:
            return None
        piece = await cast.bucket.read(info, 0, info.size)
    except TransferFailed as error:
        if not error.is_retryable:
            raise
        # The next checkpoint took its place between two requests: look again.
        return None
    content: dict[str, Any] = json.loads(piece.data)
    return content


async def _until(what: str, look: Callable[[], Awaitable[_Seen | None]]) -> _Seen:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while (seen := await look()) is None:  # noqa: ASYNC110 - a bucket has no events
                await asyncio.sleep(_LOOK_S)
    except TimeoutError as error:
        raise KelpieError(
            f"The demo failed: waited {_PATIENCE_S:.0f} s, but never saw that {what}."
        ) from error
    return seen


def _check(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise KelpieError(f"The demo failed: {otherwise}.")
