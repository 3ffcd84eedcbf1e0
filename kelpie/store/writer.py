"""The one writer: group commit.

It takes whatever is waiting, runs each operation in a savepoint of one
transaction, commits once, and only then answers all: a 2xx means it is on disk.
Statements run on the event loop, where nothing contends for the interpreter
(a statement is tens of microseconds); COMMIT, which waits for the disk, runs on
a thread of its own while the loop collects the next batch. Measured on two
cores: a commit per request reaches a tenth of the framework's own rate, whole
batches on a thread a third of it under load, this more than half.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import structlog

from kelpie.errors import KelpieError, StorageFull, Unavailable
from kelpie.store.clock import DRIFT_MS, LeaseClock
from kelpie.store.transaction import Transaction, Wake

_Result = TypeVar("_Result")
log = structlog.get_logger()

LATE_MS = 2000
"""A pause between batches longer than this was the server's own fault (rule 10)."""
_LARGEST_BATCH = 256
_PRIMARY_CODE = 0xFF  # SQLite's extended codes keep the primary one in the low byte
_FATAL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Order(IntEnum):
    """Within a batch, signs of life come before anything that takes a job away (rule 10)."""

    REPORT = 0
    UPKEEP = 1
    SUBMIT = 2
    CLAIM = 3


class _Operation:
    __slots__ = ("error", "function", "future", "order", "result", "wakes")

    def __init__(
        self, order: Order, function: Callable[[Transaction], Any], future: asyncio.Future[Any]
    ) -> None:
        self.order = order
        self.function = function
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.wakes: list[Wake] = []


class Prelude:
    """What a batch owes to leases before anything else, given how late it is and how far clocks drifted."""

    def __init__(
        self, move: Callable[[Transaction, int], None], extend: Callable[[Transaction, int], None]
    ) -> None:
        self.move = move
        """Move every lease and delay by this many milliseconds: the clock was anchored anew."""
        self.extend = extend
        """Extend every live lease by this many milliseconds: the server was away."""


class Writer:
    """Runs operations in batches; one per database, and nobody else writes."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: LeaseClock,
        prelude: Prelude,
        *,
        on_commit: Callable[[list[Wake]], None],
        on_fatal: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._prelude = prelude
        self._on_commit = on_commit
        self._on_fatal = on_fatal
        self._waiting: deque[_Operation] = deque()
        self._is_busy = False
        self._is_closing = False
        self._idle = asyncio.Event()
        self._broken = ""
        self._last_batch_ms = clock.clock.boot_ms()
        self._away_since_ms: int | None = None
        self._drift_ms = 0
        self.on_batch: Callable[[int, float], None] | None = None
        """Told of every batch that changed something: its operations, and the seconds its commit took."""
        self._loop = asyncio.get_running_loop()
        self._commits: queue.SimpleQueue[list[_Operation] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._commit_batches, name="kelpie-commit", daemon=True)
        self._thread.start()

    async def run(self, order: Order, function: Callable[[Transaction], _Result]) -> _Result:
        """Run `function` inside the next batch and return its result once that is on disk.

        Raises what the function raised, Unavailable when the batch could not
        be committed, StorageFull when the disk is full. An operation that was
        accepted is carried out even if its caller goes away, unless it is a
        claim that has not begun.
        """
        if self._is_closing or self._broken:
            raise Unavailable(self._broken or "The server is shutting down.")
        future: asyncio.Future[_Result] = self._loop.create_future()
        self._waiting.append(_Operation(order, function, future))
        self._idle.clear()
        if not self._is_busy:
            # Not at once: whatever else arrived in this turn of the loop joins the batch.
            self._is_busy = True
            self._loop.call_soon(self._start_batch)
        return await future

    async def close(self) -> None:
        """Finish what is waiting, then stop the thread."""
        self._is_closing = True
        if self._is_busy:
            await self._idle.wait()
        self._commits.put(None)
        await asyncio.to_thread(self._thread.join)

    def _start_batch(self) -> None:
        if not self._waiting:
            self._is_busy = False
            self._idle.set()
            return
        if len(self._waiting) > _LARGEST_BATCH:
            # Signs of life must not wait behind claims that would take their job away.
            self._waiting = deque(sorted(self._waiting, key=_order))
        size = min(len(self._waiting), _LARGEST_BATCH)
        batch = [self._waiting.popleft() for _ in range(size)]
        # Stable: first come, first served within one order.
        batch.sort(key=_order)
        changes = self._connection.total_changes
        try:
            self._execute(batch)
            if self._connection.total_changes == changes:
                # Nothing to make durable, so nothing to wait for.
                self._connection.execute("COMMIT")
                self._finish(batch, None)
            else:
                self._commits.put(batch)
        except Exception as error:  # noqa: BLE001 - or these callers, and all after them, would wait for ever
            self._finish(batch, error)

    def _commit_batches(self) -> None:
        while (batch := self._commits.get()) is not None:
            error: sqlite3.Error | None = None
            begun = time.perf_counter()
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error as raised:
                error = raised
            self._loop.call_soon_threadsafe(self._finish, batch, error, time.perf_counter() - begun)

    def _finish(self, batch: list[_Operation], error: Exception | None, seconds: float | None = None) -> None:
        if seconds is not None and self.on_batch is not None:
            self.on_batch(len(batch), seconds)
        # The next turn, so that those who were just answered may join the next batch.
        self._loop.call_soon(self._start_batch)
        if error is None:
            self._away_since_ms = None
        else:
            self._abandon(batch, error)
            self._clock.shift(-self._drift_ms)
        self._deliver(batch)

    def _execute(self, batch: list[_Operation]) -> None:
        away_ms = self._away_ms()
        self._drift_ms = self._drift()
        self._clock.shift(self._drift_ms)
        self._connection.execute("BEGIN IMMEDIATE")
        transaction = self._begin(self._drift_ms, away_ms)
        for operation in batch:
            self._apply(operation, transaction)

    def _begin(self, drift: int, late: int) -> Transaction:
        wall = self._clock.clock.wall_ms()
        transaction = Transaction(self._connection, now=self._clock.now_ms(), wall=wall)
        if drift:
            log.warning("clock_jumped", by_ms=drift)
            self._prelude.move(transaction, drift)
        if late:
            log.warning("server_was_away", for_ms=late)
            self._prelude.extend(transaction, late)
        return transaction

    def _drift(self) -> int:
        drift = self._clock.clock.wall_ms() - self._clock.now_ms()
        return drift if abs(drift) >= DRIFT_MS else 0

    def _away_ms(self) -> int:
        # Upkeep asks for a batch several times a second, so a pause means that this process
        # (or its disk, or its machine) stood still, and no worker could have been heard.
        # The same holds from a batch that failed to the next that does not.
        now = self._clock.clock.boot_ms()
        if self._away_since_ms is None and now - self._last_batch_ms > LATE_MS:
            self._away_since_ms = self._last_batch_ms
        self._last_batch_ms = now
        return 0 if self._away_since_ms is None else now - self._away_since_ms

    def _apply(self, operation: _Operation, transaction: Transaction) -> None:
        if operation.order is Order.CLAIM and operation.future.cancelled():
            # Its client went away: the job would wait out a lease that nobody holds.
            return
        transaction.wakes = []
        was_swept = transaction.swept
        self._connection.execute("SAVEPOINT operation")
        try:
            operation.result = operation.function(transaction)
            operation.wakes = transaction.wakes
            self._connection.execute("RELEASE operation")
        except sqlite3.Error as error:
            if not self._connection.in_transaction or _is_fatal(error) or _is_full(error):
                # A full disk rolls back everything: no operation of this batch has happened.
                raise
            self._undo(operation, _translated(error))
            transaction.swept = was_swept
        except Exception as error:  # noqa: BLE001 - handed to the caller; the batch goes on
            self._undo(operation, error)
            transaction.swept = was_swept

    def _undo(self, operation: _Operation, error: BaseException) -> None:
        self._connection.execute("ROLLBACK TO operation")
        self._connection.execute("RELEASE operation")
        operation.wakes = []
        operation.error = error

    def _abandon(self, batch: list[_Operation], error: Exception) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        if self._away_since_ms is None:
            self._away_since_ms = self._last_batch_ms
        translated = _translated(error)
        for operation in batch:
            operation.wakes = []
            operation.error = translated
        log.error("batch_failed", error=str(error), operations=len(batch))
        if _is_fatal(error):
            # A failed fsync must never be tried again: the kernel may have dropped the pages.
            self._broken = f"The database failed: {error}."

    def _deliver(self, batch: list[_Operation]) -> None:
        for operation in batch:
            if operation.future.cancelled():
                # The caller went away; what it asked for has happened all the same.
                continue
            if operation.error is not None:
                operation.future.set_exception(operation.error)
            else:
                operation.future.set_result(operation.result)
        self._on_commit([wake for operation in batch for wake in operation.wakes])
        if self._broken:
            self._on_fatal(self._broken)


def _order(operation: _Operation) -> Order:
    return operation.order


def _is_fatal(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _FATAL


def _is_full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE == sqlite3.SQLITE_FULL


def _translated(error: Exception) -> KelpieError:
    if _is_full(error):
        return StorageFull("The server's disk is full; nothing was changed. Free some space and try again.")
    return Unavailable(f"The change could not be written ({error}); nothing was changed. Try again.")
