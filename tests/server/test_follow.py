"""GET /events: the caller's jobs as they happen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.kelpie_server import ServerProcess
from tests.server.api import Api


class Stream:
    """One open stream, read event by event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._content = response.content

    async def next(self) -> dict[str, Any]:
        """The next event: its `event`, its `id` if it has one, and its data; empty at the end."""
        fields: dict[str, Any] = {}
        async with asyncio.timeout(20):
            while line := (await self._content.readline()).decode():
                name, _, value = line.strip().partition(": ")
                if not name and "data" in fields:
                    return fields
                if name in {"event", "id", "data"}:
                    fields[name] = json.loads(value) if name == "data" else value
        return {}


@asynccontextmanager
async def followed(api: Api, **headers: str) -> AsyncIterator[Stream]:
    """Open a stream and return once it follows."""
    sent = {"X-Kelpie-Key": api.key or "", **{name.replace("_", "-"): text for name, text in headers.items()}}
    async with aiohttp.ClientSession() as session, session.get(f"{api.url}/events", headers=sent) as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert (await response.content.readline()).startswith(b":")
        yield Stream(response)


async def test_what_happens_is_told(api: Api) -> None:
    """Every change of state with its job, and progress as it comes."""
    async with followed(api) as stream:
        job = await api.submit()
        await api.claim("m1")
        claimed = await stream.next()
        await api.report(job["id"], "heartbeat", "m1", attempt=1, progress={"progress": 0.5})
        progress = await stream.next()
        await api.report(job["id"], "completed", "m1", attempt=1)
        completed = await stream.next()

    assert (claimed["event"], claimed["data"]["job_id"]) == ("status", job["id"])
    assert (claimed["data"]["from"], claimed["data"]["to"]) == ("pending", "running")
    assert progress == {
        "event": "progress",
        "data": {"job_id": job["id"], "attempt": 1, "progress": {"progress": 0.5}},
    }
    assert completed["data"]["to"] == "completed"
    assert int(completed["id"]) > int(claimed["id"])


async def test_a_stream_goes_on_where_it_broke_off(api: Api) -> None:
    """After `Last-Event-ID`, nothing is missed and nothing comes twice."""
    async with followed(api) as stream:
        job = await api.submit()
        await api.claim("m1")
        claimed = await stream.next()
    await api.report(job["id"], "interrupted", "m1", attempt=1)
    await api.claim("m2")

    async with followed(api, Last_Event_ID=claimed["id"]) as stream:
        rest = [await stream.next(), await stream.next()]

    assert [one["data"]["kind"] for one in rest] == ["interrupted", "claimed"]


async def test_others_jobs_are_not_told(api: Api, make_api: Any) -> None:
    """Neither as they happen nor afterwards; a worker key may not follow."""
    stranger = await make_api()
    async with followed(api, Last_Event_ID="0") as stream:
        theirs = await stranger.submit()
        await stranger.claim("m1")
        await stranger.report(theirs["id"], "heartbeat", "m1", attempt=1, progress={"progress": 0.1})
        mine = await api.submit()
        await api.delete(f"/jobs/{mine['id']}")

        assert (await stream.next())["data"]["job_id"] == mine["id"]

    worker = await make_api(api.user_id, scope="worker")
    assert (await worker.get("/events")).status == 403
    assert (await api.get("/events", Last_Event_ID="x")).status == 400


async def test_a_stream_ends_with_the_server(fresh_server: ServerProcess) -> None:
    """Which does not wait for it."""
    account = fresh_server.new_account()
    async with Api(fresh_server.url, account.key) as api, followed(api) as stream:
        ending = asyncio.create_task(asyncio.to_thread(fresh_server.terminate))

        assert await stream.next() == {}
        assert await ending == 0
    assert "error" not in fresh_server.log.read_text()


async def test_a_reader_that_went_away_is_forgotten(fresh_server: ServerProcess) -> None:
    """The server goes on without a complaint."""
    account = fresh_server.new_account()
    async with Api(fresh_server.url, account.key) as api:
        for _ in range(3):
            async with followed(api):
                pass
        await api.submit()
        assert await api.claim("m1") is not None
    assert fresh_server.terminate() == 0
    assert "error" not in fresh_server.log.read_text()
