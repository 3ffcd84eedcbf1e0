"""What an operation of the store gets: the connection, the time, and a list of wake-ups to leave."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

Row = tuple[Any, ...]
Parameters = Mapping[str, Any] | Sequence[Any]
WEBHOOKS_KEY: tuple[object, ...] = ("webhooks",)
"""What the courier waits for."""


class Wake:
    """Somebody may be waiting for this: `count` jobs of a group became claimable, or a job changed."""

    __slots__ = ("count", "key")

    def __init__(self, key: tuple[object, ...], count: int = 1) -> None:
        self.key = key
        self.count = count


def group_key(user_seq: int, container_group_id: str) -> tuple[object, ...]:
    """Name what a claim waits for."""
    return ("group", user_seq, container_group_id)


def job_key(job_id: str) -> tuple[object, ...]:
    """Name what a holder waits for."""
    return ("job", job_id)


PROGRESS = "progress"
"""First of the key of a job that said how far it is; its user and id follow."""
LOST_KEY = ("lost",)
"""Nobody waits for this: it tells whoever counts how many leases ran out."""


class Transaction:
    """One write transaction, shared by the operations of a batch; each runs in a savepoint."""

    __slots__ = ("_connection", "now", "swept", "wakes", "wall")

    def __init__(self, connection: sqlite3.Connection, *, now: int, wall: int) -> None:
        self._connection = connection
        self.now = now
        """Milliseconds on the lease clock: leases, delays, polls."""
        self.wall = wall
        """Milliseconds of wall time: everything a person reads."""
        self.swept = False
        """Whether leases and delays that ran out by `now` were already dealt with."""
        self.wakes: list[Wake] = []

    def one(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """Run a statement that gives at most one row."""
        # Read to the end: an unfinished RETURNING makes RELEASE and COMMIT fail.
        rows = self._connection.execute(sql, parameters).fetchall()
        return rows[0] if rows else None

    def all(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run a statement and fetch every row."""
        return self._connection.execute(sql, parameters).fetchall()

    def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement and return how many rows it changed."""
        return self._connection.execute(sql, parameters).rowcount

    def insert(self, sql: str, parameters: Parameters = ()) -> int:
        """Insert one row and return its rowid."""
        return self._connection.execute(sql, parameters).lastrowid or 0

    def many(self, sql: str, rows: Sequence[Parameters]) -> None:
        """Run a statement once per row."""
        self._connection.executemany(sql, rows)

    def wake(self, key: tuple[object, ...], count: int = 1) -> None:
        """Wake whoever waits for `key`, once the transaction is on disk."""
        self.wakes.append(Wake(key, count))
