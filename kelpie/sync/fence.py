"""The fence: whether this worker may write under plain keys right now.

The lease's owner drives it. It leaves to others what a lease is and when it
is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class FenceShut(Exception):
    """A write was about to begin while the fence was shut."""


class Fence:
    """A gate before every write and delete; shutting it aborts the writes that are under way.

    `may_write` is asked immediately before each request as well: after the
    process was suspended the timer that shuts the fence may be late.
    """

    def __init__(self, may_write: Callable[[], bool] = lambda: True) -> None:
        self._may_write = may_write
        self._opened = asyncio.Event()
        self._opened.set()
        self._under_way: set[asyncio.Timeout] = set()

    @property
    def is_open(self) -> bool:
        """Whether a write may begin now."""
        if self._opened.is_set() and not self._may_write():
            self.shut()
        return self._opened.is_set()

    def open(self) -> None:
        """Let writes begin again."""
        self._opened.set()

    def shut(self) -> None:
        """Let no write begin, and abort those under way."""
        self._opened.clear()
        aborted, self._under_way = self._under_way, set()
        now = asyncio.get_running_loop().time() if aborted else 0.0
        for scope in aborted:
            scope.reschedule(now)

    async def wait_open(self) -> None:
        """Wait until a write may begin."""
        while not self.is_open:
            await self._opened.wait()

    def confirm(self) -> None:
        """Raise FenceShut unless a write may begin now; for use inside `guard`."""
        if not self.is_open:
            raise FenceShut

    async def guard(self, write: Callable[[], Awaitable[T]]) -> T:
        """Run `write` while the fence is open; one cut short by `shut` runs again after `open`."""
        while True:
            await self.wait_open()
            scope = asyncio.timeout(None)
            try:
                async with scope:
                    return await self._watched(scope, write)
            except FenceShut:
                continue
            except TimeoutError:
                if not scope.expired():
                    raise

    async def _watched(self, scope: asyncio.Timeout, write: Callable[[], Awaitable[T]]) -> T:
        self._under_way.add(scope)
        try:
            return await write()
        finally:
            self._under_way.discard(scope)
