"""`GET /events`: what happens to the caller's jobs, as server-sent events.

Nothing is buffered for a slow reader: each stream reads the events table at
its own pace, a page at a time, and goes on where it is. Progress is told as
it is now, so of a job that reports faster than it is read, only the last word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from litestar import Router, get
from litestar.response import ServerSentEvent, ServerSentEventMessage

from kelpie.errors import InvalidFields, Issue, Unavailable
from kelpie.server.auth import readers
from kelpie.server.following import Reader
from kelpie.server.openapi import Doc
from kelpie.server.services import Request, Services, caller_of, services_of
from kelpie.store import feed
from kelpie.store.access import Caller

_BEAT_S = 15.0
_GATHER_S = 0.1
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_encode = msgspec.json.Encoder().encode


@get(
    "/events",
    before_request=readers,
    operation_id="get_FollowEvents",
    summary="Follow what happens to your jobs",
    media_type="text/event-stream",
    opt=Doc(errors=(400, 503), is_new=True).opt(),
)
async def follow_events(request: Request) -> ServerSentEvent:
    """Send `status` and `progress` of the caller's jobs as they happen, until the client goes away.

    `Last-Event-ID` goes on after that event; without it, from now.
    """
    services, caller = services_of(request), caller_of(request)
    last = request.headers.get("last-event-id", "").strip()
    if last and not (last.isascii() and last.isdigit() and len(last) <= 18):  # noqa: PLR2004 - 64 bits
        path: list[str | int] = ["headers", "last-event-id"]
        raise InvalidFields([Issue("invalid_value", "Expected the id of an event", path)])
    if not services.feed.has_room:
        raise Unavailable("Too many streams are open. Try again later.")
    after = int(last) if last else feed.newest(services.store.database)
    return ServerSentEvent(_stream(services, caller, after), headers=_HEADERS)


async def _stream(services: Services, caller: Caller, after: int) -> AsyncIterator[ServerSentEventMessage]:
    database, follows = services.store.database, services.feed
    with follows.reader(caller.user_seq) as reader:
        # Said at once, so that a client knows that it misses nothing from here on.
        yield ServerSentEventMessage(comment="following")
        while not follows.is_closed:
            reader.is_told.clear()
            while after < feed.newest(database) and not follows.is_closed:
                found, after = await feed.events_after(database, caller, after)
                for one in found:
                    yield _message("status", one, one.id)
            said, reader.job_ids = reader.job_ids, {}
            for progress in feed.progress_of(database, caller, said):
                yield _message("progress", progress)
            if not await _told(reader):
                yield ServerSentEventMessage(comment="still here")


async def _told(reader: Reader) -> bool:
    try:
        async with asyncio.timeout(_BEAT_S):
            await reader.is_told.wait()
    except TimeoutError:
        return False
    # Commits come in crowds: one look for all of a moment.
    await asyncio.sleep(_GATHER_S)
    return True


def _message(event: str, data: msgspec.Struct, event_id: int | None = None) -> ServerSentEventMessage:
    return ServerSentEventMessage(
        data=_encode(data).decode(), event=event, id=None if event_id is None else str(event_id)
    )


router = Router("/", route_handlers=[follow_events], tags=["jobs"])
