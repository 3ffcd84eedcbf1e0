"""Jobs counted by group and state, for those who watch: exact, but some seconds old when there are many.

Counting reads every job, and an index for it would cost each claim. So it runs
on a thread and a connection of its own, and pauses fifty times as long as it
took (not where that is next to nothing): at most a fiftieth of one core.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from kelpie.store.database import open_read_only
from kelpie.store.transaction import Row

_PAUSE = 50
_QUICK_S = 0.1


class Counted(Struct, frozen=True):
    """Jobs of one group in one state, and when the oldest was submitted."""

    group_seq: int
    status: str
    count: int
    oldest: int


class Tally:
    """The newest count of all jobs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self._rows: list[Counted] = []
        self._fresh_until = 0.0
        self.counted_ms = 0
        """When the rows were read, wall time."""

    async def rows(self) -> list[Counted]:
        """Count, or return the last count where it is young enough."""
        async with self._lock:
            if time.monotonic() >= self._fresh_until:
                begun = time.monotonic()
                self.counted_ms = time.time_ns() // 1_000_000
                self._rows = [Counted(*row) for row in await asyncio.to_thread(self._count)]
                ended = time.monotonic()
                took = ended - begun
                self._fresh_until = ended + took * _PAUSE if took > _QUICK_S else ended
            return self._rows

    def _count(self) -> list[Row]:
        with closing(open_read_only(self._path)) as connection:
            return connection.execute(
                "SELECT group_seq, status, count(*), min(created) FROM jobs GROUP BY group_seq, status"
            ).fetchall()
