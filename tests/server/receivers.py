"""Receivers of webhooks: real servers on loopback that note what they got and answer as they are told."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec import Struct
from standardwebhooks import Webhook


class Received(Struct, frozen=True):
    """One request: its headers in lower case, and its body as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The body, decoded."""
        decoded: dict[str, Any] = msgspec.json.decode(self.body)
        return decoded

    def verify(self, secret: str) -> None:
        """Check the signature as a receiver would."""
        Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """One receiver; it answers `status`, and holds every request while `is_open` is not set."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.status = 200
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._arrived = asyncio.Condition()
        app = web.Application()
        app.router.add_post("/hook", self._answer)
        self._server = TestServer(app)

    async def __aenter__(self) -> Self:
        await self._server.start_server()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open.set()
        await self._server.close()

    @property
    def url(self) -> str:
        """Where webhooks go."""
        return f"http://127.0.0.1:{self._server.port}/hook"

    @property
    def said(self) -> list[str]:
        """The statuses received, in order."""
        return [one.message["status"] for one in self.received]

    async def wait_for(self, count: int) -> list[Received]:
        """Wait until so many requests have arrived."""
        async with asyncio.timeout(20), self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def _answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(headers, await request.read())
        async with self._arrived:
            self.received.append(received)
            self._arrived.notify_all()
        await self.is_open.wait()
        headers = {"Location": "/elsewhere"} if self.status // 100 == 3 else {}
        return web.Response(status=self.status, text="noted", headers=headers)
