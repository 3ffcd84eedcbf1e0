"""Waiting without polling: in-process signals that the store's commits fire.

Whoever waits registers first, then looks, then waits; otherwise a wake-up
between the look and the wait would be lost. One claimable job wakes one
waiter, who passes the wake on if it takes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from kelpie.store.transaction import Wake

Key = tuple[object, ...]


class Waiter:
    """One request that waits; use it as a context manager around look and wait."""

    def __init__(self, signals: Signals, key: Key) -> None:
        self._signals = signals
        self._key = key
        self._woken = asyncio.Event()
        self.serial = 0
        self._has_room = False
        self._woken_up_to = 0

    def __enter__(self) -> Self:
        self.serial = self._signals.add(self._key, self)
        # Decided once, on arrival: who waits already is not sent away for a newcomer.
        self._has_room = self._signals.has_room
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.remove(self._key, self)
        if kind is not None:
            # Its client went away: the job it was woken for is somebody else's.
            self.pass_on()

    @property
    def may_wait(self) -> bool:
        """Whether this request may wait, or should be answered at once."""
        return self._has_room and not self._signals.is_closed

    def wake(self, up_to: int) -> None:
        """Wake this waiter; waiters with a serial of `up_to` or more came after the cause."""
        self._woken_up_to = up_to
        self._woken.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait to be woken; False when the time is over first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            # Both may happen in one turn of the loop, and a wake must not be lost.
            return self._woken.is_set()
        return True

    def pass_on(self) -> None:
        """Hand an unused wake to the next who waited when it was fired."""
        if self._woken.is_set():
            self._woken.clear()
            self._signals.wake_one(self._key, self._woken_up_to)


class Signals:
    """Everybody who waits, by what they wait for."""

    def __init__(self, *, limit: int) -> None:
        self._waiters: dict[Key, dict[int, Waiter]] = {}
        self._listeners: dict[Key, asyncio.Event] = {}
        self._limit = limit
        self._serial = 0
        self._count = 0
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nobody may wait any more."""
        return self._closed

    @property
    def count(self) -> int:
        """How many wait."""
        return self._count

    @property
    def has_room(self) -> bool:
        """Whether all who are registered may wait."""
        return self._count <= self._limit

    def waiter(self, key: Key) -> Waiter:
        """Make a waiter for a key."""
        return Waiter(self, key)

    def fire(self, wakes: Iterable[Wake]) -> None:
        """Wake as many waiters as there is reason to; a changed job wakes all of its own."""
        for wake in wakes:
            listener = self._listeners.get(wake.key)
            if listener is not None:
                listener.set()
            waiters = self._waiters.get(wake.key)
            if not waiters:
                continue
            count = len(waiters) if wake.key[0] == "job" else wake.count
            for _ in range(min(count, len(waiters))):
                self.wake_one(wake.key, self._serial + 1)

    def listen(self, key: Key, event: asyncio.Event) -> None:
        """Set `event` at every wake for `key`: for a loop of the server's own, which takes nobody's room."""
        self._listeners[key] = event

    def close(self) -> None:
        """Answer everybody: the server is going down."""
        self._closed = True
        for waiters in list(self._waiters.values()):
            for waiter in list(waiters.values()):
                waiter.wake(0)

    def add(self, key: Key, waiter: Waiter) -> int:
        """Register a waiter behind all others and return its serial."""
        self._serial += 1
        self._count += 1
        self._waiters.setdefault(key, {})[self._serial] = waiter
        return self._serial

    def remove(self, key: Key, waiter: Waiter) -> None:
        """Take a waiter off the list; harmless when it was taken off by a wake."""
        self._count -= 1
        self._drop(key, waiter.serial)

    def wake_one(self, key: Key, up_to: int) -> None:
        """Wake who waited longest, if it waited already when the cause arose."""
        waiters = self._waiters.get(key)
        if not waiters:
            return
        serial, waiter = next(iter(waiters.items()))
        if serial >= up_to:
            return
        self._drop(key, serial)
        waiter.wake(up_to)

    def _drop(self, key: Key, serial: int) -> None:
        waiters = self._waiters.get(key)
        if waiters is not None:
            waiters.pop(serial, None)
            if not waiters:
                del self._waiters[key]
