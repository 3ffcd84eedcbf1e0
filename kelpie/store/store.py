"""The store as the server sees it: one object, its verbs, and who is woken by a commit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kelpie.errors import StoreError
from kelpie.store.access import Caller, admin_caller, caller_of, hash_key
from kelpie.store.claims import Policy
from kelpie.store.clock import Clock, SystemClock
from kelpie.store.database import Database, open_database
from kelpie.store.lock import Lock
from kelpie.store.machines import Polls
from kelpie.store.sweep import extend_leases, greet, move_lease_times
from kelpie.store.tally import Tally
from kelpie.store.transaction import Wake
from kelpie.store.writer import Prelude

_MS = 1000


class Store:
    """One open database with the settings and caches that belong to it."""

    def __init__(self, database: Database, policy: Policy, clock: Clock) -> None:
        self.database = database
        self.policy = policy
        self.polls = Polls(policy.ban_window_ms)
        self.tally = Tally(database.path)
        self._clock = clock
        self._callers: dict[bytes, Caller] = {}

    def caller(self, key: str) -> Caller | None:
        """Find whose key this is; None for unknown, expired and revoked ones."""
        key_hash = hash_key(key)
        caller = self._callers.get(key_hash)
        if caller is None:
            caller = caller_of(self.database, key_hash)
            if caller is None:
                return None
            self._callers[key_hash] = caller
        if caller.expires is not None and caller.expires <= self._clock.wall_ms():
            return None
        return caller

    def now_ms(self) -> int:
        """Milliseconds of wall time; the lease clock differs by less than a second."""
        return self._clock.wall_ms()

    def local_admin(self) -> Caller | None:
        """Make a caller of the local admin."""
        return admin_caller(self.database)

    def forget_caller(self, key_hash: bytes) -> None:
        """Stop accepting a key that was just revoked."""
        self._callers.pop(key_hash, None)

    def forget_callers(self) -> None:
        """Look every key up again: users were removed."""
        self._callers.clear()

    async def close(self) -> None:
        """Finish what is waiting and close the file."""
        await self.database.close()


async def open_store(
    path: Path,
    policy: Policy,
    *,
    on_commit: Callable[[list[Wake]], None],
    on_fatal: Callable[[str], None],
    clock: Clock | None = None,
) -> Store:
    """Open the database as its only server; raises StoreError with what to do."""
    clock = clock or SystemClock()
    lock = Lock(path)
    if not lock.acquire():
        holder = lock.holder()
        lock.close()
        who = f" (process {holder.pid}{' at ' + holder.url if holder.url else ''})" if holder else ""
        raise StoreError(f"Another server{who} has {path} open. Stop it first, or name another file.")
    prelude = Prelude(move=move_lease_times, extend=extend_leases)
    database = await open_database(path, lock, clock, prelude, on_commit=on_commit, on_fatal=on_fatal)
    await greet(database)
    return Store(database, policy, clock)
