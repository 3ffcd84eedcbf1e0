"""What is stored once the command is gone, and when storing must end."""

from __future__ import annotations

import asyncio

from kelpie.errors import TransferFailed
from kelpie.worker.cargo import Cargo
from kelpie.worker.clock import boottime
from kelpie.worker.lease import Lease
from kelpie.worker.notice import Notice
from kelpie.worker.outcome import Ending, Flush, Row, Why
from kelpie.worker.race import unless

_LOOK_S = 0.1


class Finish:
    """Stores what a row of the outcome table asks for, while this attempt may write."""

    def __init__(self, cargo: Cargo | None, ending: Ending, lease: Lease, notice: Notice) -> None:
        self._cargo, self._ending, self._lease, self._notice = cargo, ending, lease, notice
        self._is_flush_over = False
        self._is_stored = False

    async def store(self, row: Row, *, killed_at: float | None) -> bool:
        """Flush `during` and deliver `after` as the row says; whether all of it is stored."""
        if self._cargo is None:
            return True
        self._is_stored = False
        await self._ending.guarded(self._store(self._cargo, row, killed_at))
        return self._is_stored

    async def _store(self, cargo: Cargo, row: Row, killed_at: float | None) -> None:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(row, over), name="end of writes")
            try:
                await unless(over, self._put_away(cargo, row, killed_at))
            finally:
                watching.cancel()

    async def _put_away(self, cargo: Cargo, row: Row, killed_at: float | None) -> None:
        try:
            if row.flush is not Flush.NONE and not self._is_flush_over:
                await cargo.flush(killed_at=killed_at if row.flush is Flush.STOPPED else None)
                self._is_flush_over = True
            if row.after:
                await cargo.deliver()
        except TransferFailed as error:
            # Patience is spent already: another row must not begin it again.
            self._is_flush_over = True
            self._ending.ask(Why.UPLOAD, error.message)
        else:
            self._is_stored = True

    async def _watch(self, row: Row, over: asyncio.Event) -> None:
        while not self._must_end(row):  # noqa: ASYNC110 - half of it is a clock no event knows
            await asyncio.sleep(_LOOK_S)
        over.set()

    def _must_end(self, row: Row) -> bool:
        if boottime() >= self._notice.writes_until:
            return True
        # A canceled job is flushed for as long as the last accepted heartbeat allows; none follows it.
        is_gone = self._ending.gone.is_set()
        return is_gone and (self._ending.why in row.yields_to or not self._lease.is_valid())
