"""The database as `kelpie admin` sees it: on the server's machine, with or without a server beside it.

Whoever writes takes the server's lock. While a server holds it, its address
and a secret that only the file's owner can read are there instead, and the
same change goes through its API: one process writes, always.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from kelpie.contract import Key, User
from kelpie.errors import NotFound, StoreError
from kelpie.store.access import KEYS_SQL, key_of, user_from
from kelpie.store.clock import SystemClock
from kelpie.store.database import Database, open_database, open_read_only
from kelpie.store.lock import Lock, ServerAddress
from kelpie.store.sweep import extend_leases, move_lease_times
from kelpie.store.writer import Prelude


@contextlib.asynccontextmanager
async def writing(path: Path, *, may_create: bool = False) -> AsyncIterator[Database | ServerAddress]:
    """Open the database to write, or find the server that has it open; raises StoreError."""
    if not may_create:
        _require(path)
    lock = Lock(path)
    if not lock.acquire():
        holder = lock.holder()
        lock.close()
        if holder is None or not holder.url:
            raise StoreError(f"Another process has {path} open and is just starting or stopping. Try again.")
        yield holder
        return
    prelude = Prelude(move=move_lease_times, extend=extend_leases)
    database = await open_database(
        path, lock, SystemClock(), prelude, on_commit=lambda _wakes: None, on_fatal=lambda _why: None
    )
    try:
        yield database
    finally:
        await database.close()


def list_users(path: Path) -> list[User]:
    """Read every user, oldest first; raises StoreError."""
    with _reading(path) as connection:
        rows = connection.execute("SELECT user_id, username, created FROM users ORDER BY user_seq").fetchall()
    return [user_from(row) for row in rows]


def list_keys(path: Path) -> list[Key]:
    """Read every key, oldest first, revoked ones too; raises StoreError."""
    with _reading(path) as connection:
        rows = connection.execute(f"{KEYS_SQL} ORDER BY keys.key_seq").fetchall()
    return [key_of(row) for row in rows]


def find_user(path: Path, name_or_id: str) -> User:
    """Find a user by name or id; raises NotFound and StoreError."""
    for user in list_users(path):
        if name_or_id in {user.username, user.id}:
            return user
    raise NotFound(f"There is no user {name_or_id!r}. `kelpie admin user list` shows who there is.")


def is_initialised(path: Path) -> bool:
    """Whether the file is there and has users in it; raises StoreError when it is no database of ours."""
    return path.exists() and path.stat().st_size > 0 and bool(list_users(path))


def _require(path: Path) -> None:
    if not path.exists():
        raise StoreError(
            f"There is no database at {path.absolute()}. Go to its directory, name it with "
            "`kelpie admin --database PATH`, or make it: kelpie admin init"
        )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    _require(path)
    try:
        with contextlib.closing(open_read_only(path)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read as a Kelpie database: {error}.") from error
