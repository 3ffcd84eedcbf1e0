"""Clients that never finish what they began to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from uvicorn.server import ServerState

from kelpie.server import run


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest_asyncio.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Where the protocol of the server listens, with little patience."""
    monkeypatch.setattr(run, "_HEADERS_WITHIN_S", 0.2)
    config = uvicorn.Config(_app, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: run._Protocol(config=config, server_state=state, app_state={}),  # noqa: SLF001 - the real one
        "127.0.0.1",
        0,
    )
    async with server:
        yield int(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Ke"])
async def test_a_client_that_never_ends_its_headers_is_let_go(port: int, said: bytes) -> None:
    """It would hold its connection for ever."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)

    async with asyncio.timeout(5):
        assert await reader.read() == b""

    writer.close()


async def test_a_second_request_has_no_more_time_than_the_first(port: int) -> None:
    """On a connection that was kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 204")
    writer.write(b"GET / HTTP/1.1\r\nHo")

    async with asyncio.timeout(5):
        assert await reader.read() == b""

    writer.close()
