"""A worker of the original Kelpie as a server sees it: plain polls, no attempts, no exit codes."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import aiohttp

from tests.end_to_end.stage import GROUP


class OriginalWorker:
    """Plays the protocol by hand; use it as `async with OriginalWorker(url, key, machine_id) as worker`."""

    def __init__(self, url: str, key: str, machine_id: str) -> None:
        self._url, self._key = url, key
        self._who = {"machine_id": machine_id, "container_group_id": GROUP}

    async def __aenter__(self) -> Self:
        headers = {"X-Kelpie-Key": self._key, "Content-Type": "application/json"}
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def poll(self) -> dict[str, Any] | None:
        """Ask once for work: the first element of the array, as the original takes it."""
        async with self._session.get(f"{self._url}/work", params=self._who) as response:
            assert response.status == 200
            jobs = await response.json(content_type=None)
        return jobs[0] if jobs else None

    async def poll_until_work(self) -> dict[str, Any]:
        """Ask again and again, as an idle worker does."""
        while (job := await self.poll()) is None:  # noqa: ASYNC110 - the original has no events
            await asyncio.sleep(0.2)
        return job

    async def heartbeat(self, job_id: str) -> str:
        """Send one heartbeat; the status it is answered with."""
        answer: dict[str, str] = await self._post(f"/jobs/{job_id}/heartbeat", 200)
        return answer["status"]

    async def completed(self, job_id: str) -> None:
        """Report a completion; any other answer than 200 would end this worker."""
        await self._post(f"/jobs/{job_id}/completed", 200)

    async def failed(self, job_id: str) -> None:
        """Report a failure; any other answer than 202 would end this worker."""
        await self._post(f"/jobs/{job_id}/failed", 202)

    async def beat_until_canceled(self, job: dict[str, Any]) -> None:
        """Send a heartbeat at once and then every `heartbeat_interval`, until told to stop."""
        while await self.heartbeat(job["id"]) != "canceled":  # noqa: ASYNC110 - the original has no events
            await asyncio.sleep(job["heartbeat_interval"])

    async def _post(self, path: str, expected: int) -> Any:
        async with self._session.post(self._url + path, json=self._who) as response:
            assert response.status == expected, await response.text()
            return await response.json(content_type=None)
