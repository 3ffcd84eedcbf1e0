"""A budget of bytes in flight, so that memory stays bounded however large the files are."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """A counting gate over bytes, first come first served (else large parts would starve)."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._free = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def held(self, amount: int) -> AsyncIterator[None]:
        """Hold `amount` bytes for the length of the block."""
        taken = await self.acquire(amount)
        try:
            yield
        finally:
            self.release(taken)

    async def acquire(self, amount: int) -> int:
        """Take `amount` bytes, at most the whole budget; returns what to release."""
        amount = min(amount, self._total)
        if not self._waiting and amount <= self._free:
            self._free -= amount
            return amount
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        try:
            await turn
        except asyncio.CancelledError:
            self._leave(amount, turn)
            raise
        return amount

    def release(self, amount: int) -> None:
        """Give back what `acquire` took."""
        self._free += amount
        self._wake()

    def _leave(self, amount: int, turn: asyncio.Future[None]) -> None:
        if (amount, turn) in self._waiting:
            self._waiting.remove((amount, turn))
            self._wake()
        else:
            # The bytes were handed over in the same moment as the cancellation.
            self.release(amount)

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            amount, turn = self._waiting.popleft()
            self._free -= amount
            if turn.cancelled():
                self._free += amount
            else:
                turn.set_result(None)
