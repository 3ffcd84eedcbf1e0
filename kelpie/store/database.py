"""The SQLite file: opening it safely, its one writer, its readers.

One connection in the whole system writes and checkpoints. SQLite 3.7.0 to
3.51.2 can lose commits when two connections write and checkpoint one WAL file
(fixed in 3.51.3, 3.50.7 and 3.44.6), so every other connection is read-only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import aiosqlite

from kelpie.errors import StoreError
from kelpie.store.clock import Clock, LeaseClock
from kelpie.store.lock import Lock
from kelpie.store.migrations import migrate, refuse_foreign
from kelpie.store.transaction import Parameters, Row, Transaction, Wake
from kelpie.store.writer import Order, Prelude, Writer

_Result = TypeVar("_Result")
_CACHE_KIB = 64 * 1024
_STATEMENTS = 512
_CHECKED_BYTES = 256 << 20
"""Files up to this size are read through at every start, in well under a second per 100 MB."""
SQLITE_VERSION = sqlite3.sqlite_version
_FIXED = ((3, 44, 6), (3, 45, 0)), ((3, 50, 7), (3, 51, 0)), ((3, 51, 3), (99, 0, 0))


class Database:
    """One open database file: the writer, and a reader for indexed single-row reads on the loop."""

    def __init__(
        self,
        path: Path,
        lock: Lock,
        connection: sqlite3.Connection,
        writer: Writer,
        lists: aiosqlite.Connection,
    ) -> None:
        self.path = path
        self.lock = lock
        self._connection = connection
        self._writer = writer
        self._reader = open_read_only(path)
        self._lists = lists

    def watch_batches(self, on_batch: Callable[[int, float], None]) -> None:
        """Tell `on_batch` of every commit: how many operations, how many seconds."""
        self._writer.on_batch = on_batch

    async def write(self, order: Order, function: Callable[[Transaction], _Result]) -> _Result:
        """Run `function` in the next batch; see `Writer.run`."""
        return await self._writer.run(order, function)

    def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """Read one row by an index, on the event loop: a thread hop would cost more than the read."""
        rows = self._reader.execute(sql, parameters).fetchall()
        return rows[0] if rows else None

    async def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Read many rows, off the event loop."""
        return [tuple(row) for row in await self._lists.execute_fetchall(sql, parameters)]

    async def close(self) -> None:
        """Finish waiting writes, close everything and give the lock back."""
        await self._writer.close()
        await self._lists.close()
        self._reader.close()
        # The last to close checkpoints the WAL; it must be the one that may write.
        self._connection.close()
        self.lock.release()


async def open_database(
    path: Path,
    lock: Lock,
    clock: Clock,
    prelude: Prelude,
    *,
    on_commit: Callable[[list[Wake]], None],
    on_fatal: Callable[[str], None],
) -> Database:
    """Open or make the database and start its writer; the lock is already held.

    Raises StoreError, with what to do, when the file cannot be used.
    """
    try:
        connection = _open_for_writing(path)
    except sqlite3.Error as error:
        lock.release()
        raise StoreError(_advice(path, error)) from error
    except StoreError:
        lock.release()
        raise
    writer = Writer(connection, LeaseClock(clock), prelude, on_commit=on_commit, on_fatal=on_fatal)
    lists = await aiosqlite.connect(_read_only_uri(path), uri=True, isolation_level=None)
    await lists.execute("PRAGMA query_only = ON")
    return Database(path, lock, connection, writer, lists)


def sqlite_is_fixed() -> bool:
    """Whether this SQLite has the WAL fix; Kelpie works around it either way."""
    version = sqlite3.sqlite_version_info
    return any(low <= version < high for low, high in _FIXED)


def _open_for_writing(path: Path) -> sqlite3.Connection:
    is_new = not path.exists()
    if is_new:
        # Jobs carry secrets in their environment: the file is the owner's alone from its first byte.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS
    )
    try:
        refuse_foreign(connection, path)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA busy_timeout = 5000")
        _refuse_damaged(connection, path)
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_damaged(connection: sqlite3.Connection, path: Path) -> None:
    # Better now than in the middle of a fleet's work. Larger files are left to `kelpie admin check`.
    if path.stat().st_size > _CHECKED_BYTES:
        return
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a connection that cannot write."""
    connection = sqlite3.connect(
        _read_only_uri(path), uri=True, isolation_level=None, cached_statements=_STATEMENTS
    )
    connection.execute("PRAGMA query_only = ON")
    return connection


def _read_only_uri(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


def _advice(path: Path, error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return (
            f"{path} is not a Kelpie database or is damaged ({error}). "
            "Restore a backup, or name another file."
        )
    if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        return (
            f"The database {path} cannot be opened for writing ({error}). "
            "Check the directory and its permissions."
        )
    return f"The database {path} cannot be used: {error}."
