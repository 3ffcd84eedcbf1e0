"""The network between a machine and a server: a TCP proxy that can be cut, stalled and mended."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 1 << 16


class Link:
    """Forwards connections to a server; use it as `async with Link(server_url) as link`."""

    def __init__(self, server_url: str) -> None:
        target = urlsplit(server_url)
        self._host, self._port = str(target.hostname), int(target.port or 80)
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._stalls_after = float("inf")
        self.url = ""
        self.refused = 0
        self.forwarded = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.cut()
        self._flows.set()
        self._server.close()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection, and every new one."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def stall_after(self, sent: int) -> None:
        """Hold everything back once so many more bytes were forwarded; connections stay open."""
        self._stalls_after = self.forwarded + sent

    @property
    def is_stalled(self) -> bool:
        """Whether bytes are held back."""
        return not self._flows.is_set()

    def mend(self) -> None:
        """Let new connections through, and whatever is held back."""
        self._is_cut = False
        self._stalls_after = float("inf")
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            self.refused += 1
            writer.transport.abort()
            return
        self._writers.add(writer)
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            self._writers.add(far_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
            self._writers.discard(far_writer)
        self._writers.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                self.forwarded += len(data)
                if self.forwarded >= self._stalls_after:
                    self._flows.clear()
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.close()
            await writer.wait_closed()
