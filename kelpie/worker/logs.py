"""What the child says: passed through to the worker's own streams, and its end kept for the server."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections import deque

TAIL_BYTES = 64 * 1024
_CHUNK_BYTES = 64 * 1024
_LOOK_MS = 500
_LONGEST_LINE = 4096


class Tail:
    """The last bytes a child wrote, whichever stream they came by."""

    def __init__(self, limit_bytes: int = TAIL_BYTES) -> None:
        self._limit = limit_bytes
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._lock = threading.Lock()

    def add(self, chunk: bytes) -> None:
        """Remember `chunk`, and forget what does not fit any more."""
        if not chunk:
            return
        with self._lock:
            self._chunks.append(chunk)
            self._size += len(chunk)
            while self._size - len(self._chunks[0]) >= self._limit:
                self._size -= len(self._chunks.popleft())

    def text(self) -> str:
        """What is remembered, as text; bytes that are none are replaced."""
        with self._lock:
            return b"".join(self._chunks)[-self._limit :].decode(errors="replace")


class Passthrough:
    """Copies what comes out of a pipe to a stream of the worker, unchanged, and to the tail.

    In a thread of its own: the worker's stdout may block for as long as its
    reader likes, and heartbeats must not wait for that. A daemon thread: nor
    must the worker's exit.
    """

    def __init__(self, source: int, target: int, tail: Tail) -> None:
        self._source, self._target, self._tail = source, target, tail
        self._abandoned = False
        self._broken = False
        self._line = b""
        self._thread = threading.Thread(target=self._copy, name=f"passthrough-{target}", daemon=True)
        self._thread.start()

    async def finish(self, within_s: float) -> None:
        """Wait for the end of the pipe, or give it up: a process that escaped may hold it open."""
        await asyncio.to_thread(self._thread.join, within_s)
        self._abandoned = True

    def _copy(self) -> None:
        look = select.poll()
        look.register(self._source, select.POLLIN)
        try:
            while not self._abandoned:
                if look.poll(_LOOK_MS) and not self._pass_on():
                    return
        finally:
            self._tail.add(self._line)
            os.close(self._source)

    def _pass_on(self) -> bool:
        chunk = os.read(self._source, _CHUNK_BYTES)
        self._remember(chunk)
        rest = memoryview(chunk)
        while rest and not self._broken:
            try:
                rest = rest[os.write(self._target, rest) :]
            except BlockingIOError:
                # Whoever shares the stream made it non-blocking.
                select.select([], [self._target], [], _LOOK_MS / 1000)
            except OSError:
                # The worker's own stream is closed: go on reading, or the child would hang.
                self._broken = True
        return bool(chunk)

    def _remember(self, chunk: bytes) -> None:
        # By whole lines: two streams that share a tail must not cut each other's in half.
        lines, newline, rest = chunk.rpartition(b"\n")
        if newline or len(self._line) + len(rest) > _LONGEST_LINE:
            self._tail.add(self._line + lines + newline)
            self._line = b""
        self._line += rest
