"""Routes that change jobs after their submission: retry, change, in bulk, remove."""

from __future__ import annotations

from litestar import delete, patch, post
from litestar.handlers import HTTPRouteHandler

from kelpie.contract import BulkAnswer, BulkRequest, Count, Job, JobChange
from kelpie.errors import InvalidFields, Issue
from kelpie.server.auth import admins, managers
from kelpie.server.bodies import read
from kelpie.server.openapi import Doc
from kelpie.server.services import Request, caller_of, services_of
from kelpie.store import bulk, changes, purge, retries
from kelpie.store.selection import Selection


@post(
    "/jobs/{job_id:str}/retry",
    status_code=202,
    before_request=managers,
    operation_id="post_RetryJob",
    summary="Retry a job",
    opt=Doc(errors=(404, 409), is_new=True).opt(),
)
async def retry_job(request: Request, job_id: str) -> Job:
    """Make a failed or canceled job pending again: counters at zero, its history kept."""
    return await retries.retry(services_of(request).store.database, caller_of(request), job_id)


@patch(
    "/jobs/{job_id:str}",
    before_request=managers,
    operation_id="patch_ChangeJob",
    summary="Change a job",
    opt=Doc(body=JobChange, errors=(400, 404, 409), is_new=True).opt(),
)
async def change_job(request: Request, job_id: str) -> Job:
    """Change priority, labels, max_failures or timeout_s of a job that has not ended."""
    wanted = await read(request, JobChange)
    fields = wanted.__struct_fields__
    if all(getattr(wanted, name) is None for name in fields):
        raise InvalidFields([Issue("too_small", f"Expected one or more of {', '.join(fields)}", ["body"])])
    store = services_of(request).store
    return await changes.change(store.database, caller_of(request), store.policy, job_id, wanted)


@post(
    "/jobs/cancel",
    status_code=200,
    before_request=managers,
    operation_id="post_CancelJobs",
    summary="Cancel jobs by filter",
    opt=Doc(body=BulkRequest, errors=(400,), is_new=True).opt(),
)
async def cancel_jobs(request: Request) -> BulkAnswer:
    """Cancel what has not ended, oldest first, up to 10,000 at once; `dry_run` only lists them."""
    asked = await read(request, BulkRequest)
    database = services_of(request).store.database
    return await bulk.cancel_selected(database, caller_of(request), _selection(asked), dry_run=asked.dry_run)


@post(
    "/jobs/retry",
    status_code=200,
    before_request=managers,
    operation_id="post_RetryJobs",
    summary="Retry jobs by filter",
    opt=Doc(body=BulkRequest, errors=(400,), is_new=True).opt(),
)
async def retry_jobs(request: Request) -> BulkAnswer:
    """Retry what failed or was canceled, oldest first, up to 10,000 at once; `dry_run` only lists them."""
    asked = await read(request, BulkRequest)
    database = services_of(request).store.database
    return await bulk.retry_selected(database, caller_of(request), _selection(asked), dry_run=asked.dry_run)


@delete(
    "/jobs/container-groups/{container_group_id:str}",
    status_code=200,
    before_request=managers,
    operation_id="delete_PurgeJobsForContainerGroup",
    summary="Purge a container group",
    opt=Doc().opt(),
)
async def purge_group(request: Request, container_group_id: str) -> Count:
    """Remove the caller's pending jobs of a group and cancel its running ones."""
    database = services_of(request).store.database
    return Count(count=await purge.purge_group(database, caller_of(request), container_group_id))


@delete(
    "/jobs",
    status_code=204,
    before_request=admins,
    operation_id="delete_ClearJobs",
    summary="Remove all jobs",
    opt=Doc().opt(),
)
async def delete_jobs(request: Request) -> None:
    """Remove every job of every user (admin)."""
    await purge.delete_jobs(services_of(request).store.database)


@delete(
    "/users",
    status_code=204,
    before_request=admins,
    operation_id="delete_ClearUsers",
    summary="Remove all users",
    opt=Doc().opt(),
)
async def delete_users(request: Request) -> None:
    """Remove every user but the admin (admin), with their keys, jobs and everything else of theirs."""
    store = services_of(request).store
    await purge.delete_users(store.database, caller_of(request), on_locked_out=store.forget_callers)


def _selection(asked: BulkRequest) -> Selection:
    if asked.status is None and not any(
        (asked.container_group_id, asked.labels, asked.name is not None, asked.ids is not None)
    ):
        message = "Expected one or more of status, container_group_id, labels, name, ids"
        raise InvalidFields([Issue("too_small", message, ["body"])])
    return Selection(
        statuses=() if asked.status is None else (asked.status,),
        container_group_id=asked.container_group_id,
        name=asked.name,
        labels=tuple((asked.labels or {}).items()),
        ids=None if asked.ids is None else tuple(asked.ids),
    )


handlers: list[HTTPRouteHandler] = [
    retry_job,
    change_job,
    cancel_jobs,
    retry_jobs,
    purge_group,
    delete_jobs,
]
"""Parts of the router of jobs: the framework wants all handlers of one path in one router."""
