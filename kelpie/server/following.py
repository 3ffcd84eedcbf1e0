"""Who follows the events of a user's jobs, and is told of each commit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from kelpie.store.transaction import PROGRESS, Wake

_MOST_JOBS = 1000


class Reader:
    """One stream: told that something was committed, and which of its user's jobs reported progress."""

    def __init__(self) -> None:
        self.is_told = asyncio.Event()
        self.job_ids: dict[str, None] = {}


class Feed:
    """Every open stream, by user; told of each commit."""

    def __init__(self, *, limit: int) -> None:
        self._readers: dict[int, set[Reader]] = {}
        self._limit = limit
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether the server goes down."""
        return self._closed

    @property
    def has_room(self) -> bool:
        """Whether one more stream may be opened."""
        return sum(map(len, self._readers.values())) < self._limit

    @contextmanager
    def reader(self, user_seq: int) -> Iterator[Reader]:
        """Follow the commits for as long as the context lasts."""
        reader = Reader()
        self._readers.setdefault(user_seq, set()).add(reader)
        try:
            yield reader
        finally:
            self._readers[user_seq].discard(reader)
            if not self._readers[user_seq]:
                del self._readers[user_seq]

    def tell(self, wakes: list[Wake]) -> None:
        """Pass on that something was committed."""
        if not self._readers:
            return
        for wake in wakes:
            if wake.key[0] == PROGRESS:
                self._note(wake)
        for readers_of_user in self._readers.values():
            for reader in readers_of_user:
                reader.is_told.set()

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        self.tell([])

    def _note(self, wake: Wake) -> None:
        _, user_seq, job_id = wake.key
        for reader in self._readers.get(int(str(user_seq)), ()):
            if len(reader.job_ids) < _MOST_JOBS:
                reader.job_ids[str(job_id)] = None
