"""The route that says why a job is where it is."""

from __future__ import annotations

from litestar import Router, get

from kelpie.overview import Explanation
from kelpie.server.auth import readers
from kelpie.server.openapi import Doc
from kelpie.server.services import Request, caller_of, services_of
from kelpie.store import explain


@get(
    "/jobs/{job_id:str}/explain",
    before_request=readers,
    operation_id="get_ExplainJob",
    summary="Say why a job is where it is",
    opt=Doc(errors=(404,), is_new=True).opt(),
)
async def explain_job(request: Request, job_id: str) -> Explanation:
    """Say in words, and in reasons for programs, what a pending job waits for."""
    store = services_of(request).store
    return await explain.explain(store.database, caller_of(request), store.policy, job_id, now=store.now_ms())


router = Router("/", route_handlers=[explain_job], tags=["jobs"])
