"""A proxy before the S3 server that answers wrongly, cuts bodies and holds requests back."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from aiohttp import ClientSession, web
from yarl import URL


@dataclass
class Fault:
    """What to do to the next `times` requests that `matches`: answer a status, cut the body, or hang."""

    matches: Callable[[web.Request], bool]
    times: int
    status: int = 0
    code: str = "InternalError"
    cut: bool = False
    corrupt: bool = False
    after: bool = False
    hold: bool = False


@dataclass
class FaultProxy:
    """Forwards everything unchanged but what `faults` say; counts what it saw."""

    target: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._session = ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def on(self, method: str, times: int = 1, *, query: str = "", **what: object) -> None:
        """Add a fault for the next requests of that method whose query holds `query`."""
        self.faults.append(
            Fault(lambda r: r.method == method and query in r.query_string, times, **what)  # type: ignore[arg-type]
        )

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path))
        fault = next((f for f in self.faults if f.times > 0 and f.matches(request)), None)
        if fault is None:
            return await self._forward(request, None)
        fault.times -= 1
        if fault.hold:
            self.held.set()
            await asyncio.Event().wait()
        if fault.status and not fault.after:
            await request.read()
            return _refusal(fault)
        answer = await self._forward(request, fault)
        return _refusal(fault) if fault.status else answer

    async def _forward(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        url = URL(self.target + request.raw_path, encoded=True)
        body = await request.read()
        async with self._session.request(
            request.method,
            url,
            headers=request.headers,
            data=io.BytesIO(body),
            skip_auto_headers=["Content-Type"],
        ) as answer:
            data = await answer.read()
            if fault and fault.corrupt:
                data = bytes([data[0] ^ 1]) + data[1:]
            headers = answer.headers.copy()
            headers.popall("Transfer-Encoding", None)
            if request.method != "HEAD":
                headers["Content-Length"] = str(len(data))
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            await response.write(data[: len(data) // 2] if fault and fault.cut else data)
            if fault and fault.cut and request.transport:
                request.transport.abort()
            await response.write_eof()
            return response


def _refusal(fault: Fault) -> web.Response:
    text = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>injected</Message></Error>"
    return web.Response(status=fault.status, text=text, content_type="application/xml")
