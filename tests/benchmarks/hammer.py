"""A cheap HTTP/1.1 load generator: prebuilt requests over kept-alive connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import urlsplit

import uvloop

Request = tuple[bytes, str]


def build(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """Make the bytes of one request."""
    headers = f"host: bench\r\nx-kelpie-key: {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    head = f"{method} {path} HTTP/1.1\r\n{headers}"
    return head.encode() + body


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> tuple[int, bytes]:
    """Send one request and read its answer: status and body."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length) if length else b""


async def _worker(
    host: str, port: int, requests: Iterator[bytes], until: float, check: Callable[[int, bytes], None]
) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    count = 0
    with closing(writer):
        while time.perf_counter() < until:
            status, body = await exchange(reader, writer, next(requests))
            check(status, body)
            count += 1
    return count


def rate(
    url: str,
    requests: Iterator[bytes],
    check: Callable[[int, bytes], None],
    *,
    connections: int = 64,
    seconds: float = 3.0,
) -> float:
    """Requests a second over `connections` connections for `seconds`."""

    async def run() -> float:
        parts = urlsplit(url)
        start = time.perf_counter()
        workers = [
            _worker(parts.hostname or "", parts.port or 0, requests, start + seconds, check)
            for _ in range(connections)
        ]
        total = sum(await asyncio.gather(*workers))
        return total / (time.perf_counter() - start)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
