"""The three requests a fleet makes all day, answered before the framework is asked.

A claim, a heartbeat or a completion costs less than the framework's own share
of a request, so the well-formed ones take this way. `kelpie.server.work`
declares the same routes for the document and for everything unusual: whatever
this module does not understand goes there and is refused there.
"""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from litestar.types import Receive, Scope
from msgspec import Meta, Struct

from kelpie.contract import MAX_WAIT_S, Completion, Heartbeat, HeartbeatAnswer, Job, Message
from kelpie.errors import NotAllowed, TooLarge
from kelpie.lifecycle import JobStatus
from kelpie.server.bodies import decode
from kelpie.server.polling import ClientGone, wait_for
from kelpie.server.services import Services
from kelpie.store import endings
from kelpie.store.access import Caller
from kelpie.store.claims import Claim, claim
from kelpie.store.leases import Sign, heartbeat
from kelpie.store.reports import Speaker
from kelpie.store.transaction import group_key

MAX_ID = 4096
_Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]
_PARTS = 4  # "", "jobs", the id, the verb
_encode = msgspec.json.Encoder().encode


class WorkQuery(Struct, frozen=True, kw_only=True):
    """The query of `GET /work`."""

    machine_id: _Id
    container_group_id: _Id
    wait: Annotated[float, Meta(ge=0, le=MAX_WAIT_S)] = 0.0
    claim_id: _Id | None = None
    version: _Id | None = None


async def express(scope: Scope, receive: Receive, services: Services, caller: Caller) -> bytes | None:
    """Answer a request, or None when it has to go the long way; raises KelpieError."""
    path, method = scope["path"], dict(scope)["method"]
    if method == "GET" and path == "/work":
        return await _work(scope, receive, services, caller)
    if method != "POST" or caller.scope == "read":
        return None
    parts = path.split("/")
    if len(parts) != _PARTS or parts[1] != "jobs" or not parts[2]:
        return None
    if parts[3] == "heartbeat":
        return _encode(await renew(services, caller, parts[2], await _body(receive, services)))
    if parts[3] == "completed":
        return _encode(await finish(services, caller, parts[2], await _body(receive, services)))
    return None


async def next_job(services: Services, caller: Caller, receive: Receive, query: WorkQuery) -> list[Job]:
    """Claim the next job of a container group: a list of one, or an empty one."""
    group = query.container_group_id
    if not caller.may_touch_group(group):
        raise NotAllowed(f"This key is bound to the container group {caller.container_group_id}.")
    asked = Claim(
        machine_id=query.machine_id,
        container_group_id=group,
        claim_id=query.claim_id,
        version=query.version,
    )
    store = services.store

    async def look() -> Job | None:
        begun = time.perf_counter()
        job = await claim(store.database, caller, store.policy, store.polls, asked)
        if job is not None:
            services.metrics.claim_seconds.observe(time.perf_counter() - begun)
        return job

    key = group_key(caller.user_seq, group)
    job = await wait_for(services.signals, receive, key, look, query.wait)
    return [] if job is None else [job]


async def renew(services: Services, caller: Caller, job_id: str, content: bytes) -> HeartbeatAnswer:
    """Renew the lease of an attempt."""
    report = decode(content, Heartbeat)
    speaker = Speaker(machine_id=report.machine_id, attempt=report.attempt)
    sign = Sign(progress=report.progress, checkpoint=report.checkpoint)
    answer = await heartbeat(services.store.database, caller, job_id, speaker, sign)
    if answer.status == JobStatus.RUNNING:
        services.metrics.heartbeats.inc()
    return answer


async def finish(services: Services, caller: Caller, job_id: str, content: bytes) -> Message:
    """Take a job as completed."""
    report = decode(content, Completion)
    speaker = Speaker(machine_id=report.machine_id, attempt=report.attempt)
    verdict = await endings.complete(services.store.database, caller, job_id, speaker, report)
    return acknowledge(verdict, "Completed reported")


def acknowledge(verdict: endings.Verdict, message: str) -> Message:
    """Say whether a report was applied."""
    if verdict.is_applied:
        return Message(message=message)
    return Message(message=f"{message}, but not applied: this machine does not hold the job")


async def _work(scope: Scope, receive: Receive, services: Services, caller: Caller) -> bytes | None:
    if caller.scope == "read":
        return None
    try:
        pairs = parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
        query = msgspec.convert(dict(pairs), WorkQuery, strict=False)
    except ValueError:
        # Refused on the long way, where the refusal names the parameter.
        return None
    return _encode(await next_job(services, caller, receive, query))


async def _body(receive: Receive, services: Services) -> bytes:
    limit = services.config.max_body_mib << 20
    chunks: list[bytes] = []
    size = 0
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            # What came so far may look like a whole report and is not one.
            raise ClientGone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise TooLarge(f"The request body may have at most {limit} bytes.")
        if not message.get("more_body"):
            return b"".join(chunks)
