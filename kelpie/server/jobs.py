"""Routes of jobs: submit, list, look, cancel."""

from __future__ import annotations

import hashlib
from typing import Annotated

from litestar import Response, Router, delete, get, post
from litestar.params import Parameter
from msgspec import structs

from kelpie.contract import (
    DEFAULT_PAGE,
    MAX_BATCH,
    MAX_PAGE,
    Attempts,
    Events,
    Job,
    JobPage,
    JobSpec,
    Message,
)
from kelpie.errors import InvalidFields, Issue, StorageFull
from kelpie.lifecycle import JobStatus
from kelpie.server import manage
from kelpie.server.auth import managers, readers
from kelpie.server.bodies import decode
from kelpie.server.listing import cursor_of, label_pairs, moment_ms
from kelpie.server.openapi import Doc
from kelpie.server.services import Request, caller_of, services_of
from kelpie.server.submission import check_batch, check_one
from kelpie.store import endings, jobs
from kelpie.store.relations import NewJob
from kelpie.store.selection import Selection
from kelpie.store.submissions import Idempotency, Submitted, submit

_KIB = 1024
_REPLAYED = "Idempotent-Replayed"
_MAX_KEY = 255
_MASK = "***"
_LAST_PAGE = 1 << 40  # keeps the offset inside 64 bits


@post(
    "/jobs",
    status_code=202,
    before_request=managers,
    operation_id="post_CreateJob",
    summary="Submit a job",
    opt=Doc(body=JobSpec, errors=(400, 409, 413, 422, 507)).opt(),
)
async def submit_job(request: Request) -> Response[Job]:
    """Submit one job. An Idempotency-Key makes it safe to send the same request again."""
    content = await request.body()
    new = check_one(decode(content, JobSpec), max_bytes=_job_limit(request))
    submitted = await _submit(request, "/jobs", [new], content)
    return Response(submitted.jobs[0], headers=_replayed(submitted))


@post(
    "/jobs/batch",
    status_code=202,
    before_request=managers,
    operation_id="post_BatchCreateJobs",
    summary="Submit up to 1000 jobs",
    opt=Doc(body=list[JobSpec], errors=(400, 409, 413, 422, 507)).opt(),
)
async def submit_batch(request: Request) -> Response[list[Job]]:
    """Submit 1 to 1000 jobs in one transaction; the answer is in the order of the request."""
    content = await request.body()
    specs = decode(content or b"[]", list[JobSpec])
    if not 1 <= len(specs) <= MAX_BATCH:
        code = "too_big" if specs else "too_small"
        raise InvalidFields([Issue(code, f"Expected 1 to {MAX_BATCH} jobs, got {len(specs)}", ["body"])])
    new = check_batch(specs, max_bytes=_job_limit(request))
    submitted = await _submit(request, "/jobs/batch", new, content)
    return Response(submitted.jobs, headers=_replayed(submitted))


async def _submit(request: Request, route: str, new: list[NewJob], content: bytes) -> Submitted:
    services = services_of(request)
    if request.app.state.disk_is_full:
        raise StorageFull("The server's disk is nearly full, so it takes no new jobs. Free some space.")
    key = request.headers.get("idempotency-key", "")
    if len(key) > _MAX_KEY:
        raise InvalidFields(
            [Issue("too_big", f"Expected at most {_MAX_KEY} characters", ["headers", "idempotency-key"])]
        )
    idempotency = None
    if key:
        idempotency = Idempotency(route=route, key=key, body_hash=hashlib.sha256(content).digest())
    return await submit(services.store.database, caller_of(request), new, idempotency)


def _replayed(submitted: Submitted) -> dict[str, str]:
    return {_REPLAYED: "true"} if submitted.is_replay else {}


def _job_limit(request: Request) -> int:
    return services_of(request).config.max_job_kib * _KIB


_Text = Annotated[str | None, Parameter(min_length=1)]


@get(
    "/jobs",
    before_request=readers,
    operation_id="get_ListJobs",
    summary="List jobs",
    opt=Doc(errors=(400,)).opt(),
)
async def list_jobs(
    request: Request,
    *,
    status: JobStatus | None = None,
    container_group_id: _Text = None,
    page_size: Annotated[int, Parameter(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE,
    page: int = 1,
    asc: Annotated[str, Parameter(pattern="(?i)^(true|false)$", description="true or false")] = "false",
    label: Annotated[list[str] | None, Parameter(description="key=value; repeat it for several")] = None,
    name: str | None = None,
    created_after: _Text = None,
    created_before: _Text = None,
    cursor: Annotated[str | None, Parameter(description="next_cursor of the page before")] = None,
) -> JobPage:
    """List the caller's jobs (an admin's view is everybody's), newest first unless `asc` is true."""
    after = cursor_of(cursor)
    wanted = Selection(
        statuses=() if status is None else (status,),
        container_group_id=container_group_id,
        name=name,
        labels=label_pairs(label),
        created_after=moment_ms("created_after", created_after),
        created_before=moment_ms("created_before", created_before),
        cursor=after,
        limit=page_size,
        # A cursor says where to go on, so a page beside it says nothing.
        offset=0 if after else (min(max(page, 1), _LAST_PAGE) - 1) * page_size,
        is_ascending=asc.lower() == "true",
    )
    found = await jobs.page(services_of(request).store.database, caller_of(request), wanted)
    return structs.replace(found, jobs=[_shown(request, job) for job in found.jobs])


@get(
    "/jobs/{job_id:str}",
    before_request=readers,
    operation_id="get_GetJob",
    summary="Look at a job",
    opt=Doc(errors=(404,)).opt(),
)
async def get_job(request: Request, job_id: str) -> Job:
    """Fetch one job."""
    return _shown(request, jobs.job(services_of(request).store.database, caller_of(request), job_id))


def _shown(request: Request, job: Job) -> Job:
    # Environments are secrets, and a read key is for those who only watch.
    if caller_of(request).scope != "read":
        return job
    return structs.replace(job, environment=dict.fromkeys(job.environment, _MASK))


@delete(
    "/jobs/{job_id:str}",
    status_code=202,
    before_request=managers,
    operation_id="delete_CancelJob",
    summary="Cancel a job",
    opt=Doc(errors=(404, 409)).opt(),
)
async def cancel_job(request: Request, job_id: str) -> Message:
    """Cancel a job that has not ended; repeating it is harmless."""
    await endings.cancel(services_of(request).store.database, caller_of(request), job_id)
    return Message(message="Job canceled")


@get(
    "/jobs/{job_id:str}/attempts",
    before_request=readers,
    operation_id="get_ListAttempts",
    summary="List a job's attempts",
    opt=Doc(errors=(404,), is_new=True).opt(),
)
async def list_attempts(request: Request, job_id: str) -> Attempts:
    """Fetch every attempt of a job, oldest first."""
    return await jobs.attempts_of(services_of(request).store.database, caller_of(request), job_id)


@get(
    "/jobs/{job_id:str}/events",
    before_request=readers,
    operation_id="get_ListEvents",
    summary="List what happened to a job",
    opt=Doc(errors=(404,), is_new=True).opt(),
)
async def list_events(request: Request, job_id: str) -> Events:
    """Fetch what happened to a job, oldest first."""
    return await jobs.events_of(services_of(request).store.database, caller_of(request), job_id)


router = Router(
    "/",
    route_handlers=[
        submit_job,
        submit_batch,
        list_jobs,
        get_job,
        cancel_job,
        list_attempts,
        list_events,
        *manage.handlers,
    ],
    tags=["jobs"],
)
