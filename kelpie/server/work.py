"""Routes of workers: claim, heartbeat, report, and the signal that an attempt is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, TypeVar

from litestar import Router, get, post
from litestar.params import Parameter

from kelpie.contract import (
    MAX_WAIT_S,
    Completion,
    Failure,
    Heartbeat,
    HeartbeatAnswer,
    Interruption,
    Job,
    Message,
    Report,
    Signal,
)
from kelpie.errors import NotAllowed
from kelpie.server.auth import workers
from kelpie.server.bodies import read
from kelpie.server.openapi import Doc
from kelpie.server.services import Request, caller_of, services_of
from kelpie.server.waiting import Waiter
from kelpie.store import endings, jobs
from kelpie.store.claims import Claim, claim
from kelpie.store.endings import Verdict
from kelpie.store.leases import Sign, heartbeat
from kelpie.store.reports import Speaker
from kelpie.store.transaction import group_key, job_key

_Answer = TypeVar("_Answer")
_MAX_ID = 4096
_Id = Annotated[str, Parameter(min_length=1, max_length=_MAX_ID)]
_OptionalId = Annotated[str | None, Parameter(min_length=1, max_length=_MAX_ID)]
_Wait = Annotated[
    float, Parameter(ge=0, le=MAX_WAIT_S, description="Seconds to wait for an answer worth giving")
]


@get(
    "/work",
    before_request=workers,
    operation_id="get_GetWork",
    summary="Claim a job",
    opt=Doc(errors=(400,)).opt(),
)
async def get_work(
    request: Request,
    *,
    machine_id: _Id,
    container_group_id: _Id,
    wait: _Wait = 0.0,
    claim_id: _OptionalId = None,
    version: _OptionalId = None,
) -> list[Job]:
    """Claim the next job of a container group: a list of one job, or an empty list.

    With `wait` the answer comes the moment a job is claimable. The same
    `claim_id` gives the same job again while that attempt lives.
    """
    caller = caller_of(request)
    if not caller.may_touch_group(container_group_id):
        raise NotAllowed(f"This key is bound to the container group {caller.container_group_id}.")
    asked = Claim(
        machine_id=machine_id, container_group_id=container_group_id, claim_id=claim_id, version=version
    )
    store = services_of(request).store

    async def look() -> Job | None:
        return await claim(store.database, caller, store.policy, store.polls, asked)

    job = await _wait_for(request, group_key(caller.user_seq, container_group_id), look, wait)
    return [] if job is None else [job]


@get(
    "/jobs/{job_id:str}/signal",
    before_request=workers,
    operation_id="get_Signal",
    summary="Wait for the end of an attempt",
    opt=Doc(errors=(400, 404), is_new=True).opt(),
)
async def get_signal(
    request: Request,
    job_id: str,
    attempt: Annotated[int, Parameter(ge=1)],
    machine_id: _Id,
    wait: _Wait = 0.0,
) -> Signal:
    """Answer the moment the job is canceled or the lease is lost: `live` is then false."""
    store, caller = services_of(request).store, caller_of(request)

    async def look() -> Signal | None:
        signal = jobs.signal(store.database, caller, job_id, attempt=attempt, machine_id=machine_id)
        return None if signal.live else signal

    over = await _wait_for(request, job_key(job_id), look, wait)
    return over or jobs.signal(store.database, caller, job_id, attempt=attempt, machine_id=machine_id)


async def _wait_for(
    request: Request, key: tuple[object, ...], look: Callable[[], Awaitable[_Answer | None]], wait_s: float
) -> _Answer | None:
    signals = services_of(request).signals
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    if wait_s <= 0:
        return await look()
    async with _while_connected(request):
        while True:
            with signals.waiter(key) as waiter:
                found = await look()
                left = until - loop.time()
                if found is not None or left <= 0 or signals.is_full:
                    # A look without a wait may still have been woken: that wake is somebody else's.
                    waiter.pass_on()
                    return found
                if not await waiter.wait(left):
                    return None
                found = await _look_and_pass_on(look, waiter)
                if found is not None or signals.is_full:
                    return found


async def _look_and_pass_on(look: Callable[[], Awaitable[_Answer | None]], waiter: Waiter) -> _Answer | None:
    found = await look()
    if found is None:
        waiter.pass_on()
    return found


@contextlib.asynccontextmanager
async def _while_connected(request: Request) -> AsyncIterator[None]:
    """Cancel the wait when the client goes away, so that nothing is claimed for nobody."""
    task = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        if task is not None:
            task.cancel()

    watcher = asyncio.create_task(watch(), name="watch-disconnect")
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        if task is not None:
            task.uncancel()
        raise ClientGone from None
    finally:
        watcher.cancel()


class ClientGone(Exception):
    """Nobody is left to answer."""


@post(
    "/jobs/{job_id:str}/heartbeat",
    status_code=200,
    before_request=workers,
    operation_id="post_JobHeartbeat",
    summary="Renew the lease",
    opt=Doc(body=Heartbeat, errors=(400, 404, 409)).opt(),
)
async def post_heartbeat(request: Request, job_id: str) -> HeartbeatAnswer:
    """Renew the lease of an attempt; the answer says whether to go on."""
    report = await read(request, Heartbeat)
    database = services_of(request).store.database
    sign = Sign(progress=report.progress, checkpoint=report.checkpoint)
    return await heartbeat(database, caller_of(request), job_id, _speaker(report), sign)


@post(
    "/jobs/{job_id:str}/completed",
    status_code=200,
    before_request=workers,
    operation_id="post_ReportJobCompleted",
    summary="Report that a job is done",
    opt=Doc(body=Completion, errors=(400, 404, 409)).opt(),
)
async def post_completed(request: Request, job_id: str) -> Message:
    """Report that the command exited 0 and that everything is stored."""
    report = await read(request, Completion)
    database = services_of(request).store.database
    verdict = await endings.complete(database, caller_of(request), job_id, _speaker(report), report)
    return _acknowledge(verdict, "Completed reported")


@post(
    "/jobs/{job_id:str}/failed",
    status_code=202,
    before_request=workers,
    operation_id="post_ReportJobFailure",
    summary="Report a failure",
    opt=Doc(body=Failure, errors=(400, 404, 409)).opt(),
)
async def post_failed(request: Request, job_id: str) -> Message:
    """Report that an attempt failed; the job is tried again until `max_failures`."""
    report = await read(request, Failure)
    database = services_of(request).store.database
    verdict = await endings.fail(database, caller_of(request), job_id, _speaker(report), report)
    return _acknowledge(verdict, "Failure reported")


@post(
    "/jobs/{job_id:str}/interrupted",
    status_code=202,
    before_request=workers,
    operation_id="post_ReportInterruption",
    summary="Give a job back",
    opt=Doc(body=Interruption, errors=(400, 404, 409), is_new=True).opt(),
)
async def post_interrupted(request: Request, job_id: str) -> Message:
    """Give the job back because the machine goes away; it is claimable at once."""
    report = await read(request, Interruption)
    database = services_of(request).store.database
    verdict = await endings.give_back(database, caller_of(request), job_id, _speaker(report), report)
    return _acknowledge(verdict, "Interruption reported")


def _speaker(report: Report) -> Speaker:
    return Speaker(machine_id=report.machine_id, attempt=report.attempt)


def _acknowledge(verdict: Verdict, message: str) -> Message:
    if verdict.is_applied:
        return Message(message=message)
    return Message(message=f"{message}, but not applied: this machine does not hold the job")


router = Router(
    "/",
    route_handlers=[get_work, get_signal, post_heartbeat, post_completed, post_failed, post_interrupted],
    tags=["work"],
)
