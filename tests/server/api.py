"""A caller of the API for tests: one key, every method, raw answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

GROUP = "group-1"


@dataclass(frozen=True)
class Answer:
    """A status, the decoded body, and the headers in lower case."""

    status: int
    body: Any
    headers: dict[str, str]


class Api:
    """Makes requests with one key, or with none; use it as `async with Api(url, key) as api`."""

    def __init__(self, url: str, key: str | None = None, *, user_id: str = "") -> None:
        self.url = url
        self.key = key
        self.user_id = user_id
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=90)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self, method: str, path: str, body: Any = None, *, content: Any = None, **headers: str
    ) -> Answer:
        """Make a request; `path` is sent as it is, header names are written with underscores."""
        assert self._session is not None
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key is not None:
            given.setdefault("X-Kelpie-Key", self.key)
        payload: Any = content if body is None else json.dumps(body).encode()
        if isinstance(payload, bytes):
            payload = BytesIO(payload)
        async with self._session.request(
            method, URL(self.url + path, encoded=True), data=payload, headers=given
        ) as response:
            raw = await response.read()
            found = {name.lower(): value for name, value in response.headers.items()}
            decoded = json.loads(raw) if raw and "json" in found.get("content-type", "") else raw
            return Answer(response.status, decoded, found)

    async def get(self, path: str, **headers: str) -> Answer:
        """GET."""
        return await self.call("GET", path, **headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        """POST as JSON."""
        return await self.call("POST", path, body, **headers)

    async def delete(self, path: str) -> Answer:
        """DELETE."""
        return await self.call("DELETE", path)

    async def submit(self, group: str = GROUP, /, **fields: Any) -> Any:
        """Submit a job that must be accepted, and return it."""
        answer = await self.post("/jobs", {"command": "true", "container_group_id": group, **fields})
        assert answer.status == 202, answer
        return answer.body

    async def claim(self, machine: str, group: str = GROUP, **query: Any) -> Any:
        """Ask for work and return the job, or None."""
        answer = await self.get(work(machine, group, **query))
        assert answer.status == 200, answer
        return answer.body[0] if answer.body else None

    async def report(self, job_id: str, what: str, machine: str, **fields: Any) -> Answer:
        """Report on a job: `heartbeat`, `completed`, `failed` or `interrupted`."""
        body = {"machine_id": machine, "container_group_id": GROUP, **fields}
        return await self.post(f"/jobs/{job_id}/{what}", body)

    async def job(self, job_id: str) -> Any:
        """Fetch a job that must exist."""
        answer = await self.get(f"/jobs/{job_id}")
        assert answer.status == 200, answer
        return answer.body


def work(machine: str, group: str = GROUP, **query: Any) -> str:
    """Make the path of a claim."""
    return str(URL("/work").with_query(machine_id=machine, container_group_id=group, **query))
