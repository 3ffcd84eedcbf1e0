"""Routes of workers: claim, heartbeat, report, and the signal that an attempt is over."""

from __future__ import annotations

from typing import Annotated

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
from kelpie.server.auth import workers
from kelpie.server.bodies import read
from kelpie.server.express import MAX_ID, WorkQuery, acknowledge, finish, next_job, renew
from kelpie.server.openapi import Doc
from kelpie.server.polling import wait_for
from kelpie.server.services import Request, caller_of, services_of
from kelpie.store import endings, jobs
from kelpie.store.reports import Speaker
from kelpie.store.transaction import job_key

_Id = Annotated[str, Parameter(min_length=1, max_length=MAX_ID)]
_OptionalId = Annotated[str | None, Parameter(min_length=1, max_length=MAX_ID)]
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
    query = WorkQuery(
        machine_id=machine_id,
        container_group_id=container_group_id,
        wait=wait,
        claim_id=claim_id,
        version=version,
    )
    return await next_job(services_of(request), caller_of(request), request.receive, query)


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

    over = await wait_for(services_of(request).signals, request.receive, job_key(job_id), look, wait)
    return over or jobs.signal(store.database, caller, job_id, attempt=attempt, machine_id=machine_id)


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
    return await renew(services_of(request), caller_of(request), job_id, await request.body())


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
    return await finish(services_of(request), caller_of(request), job_id, await request.body())


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
    return acknowledge(verdict, "Failure reported")


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
    return acknowledge(verdict, "Interruption reported")


def _speaker(report: Report) -> Speaker:
    return Speaker(machine_id=report.machine_id, attempt=report.attempt)


router = Router(
    "/",
    route_handlers=[get_work, get_signal, post_heartbeat, post_completed, post_failed, post_interrupted],
    tags=["work"],
)
