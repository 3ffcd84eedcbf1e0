"""Failed logins per address: a stranger who guesses is slowed down; a valid key is never refused for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from kelpie.errors import TooManyRequests

_MINUTE_S = 60.0
_MOST_ADDRESSES = 10_000


class FailedLogins:
    """A bucket per address that fills with failures and drains with time."""

    def __init__(self, *, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._drained_per_s = per_minute / _MINUTE_S
        self._clock = clock
        self._levels: dict[str, tuple[float, float]] = {}

    def count(self, address: str) -> None:
        """Count one failure; raises TooManyRequests when the address has had too many."""
        now = self._clock()
        level, at = self._levels.pop(address, (0.0, now))
        level = max(0.0, level - (now - at) * self._drained_per_s)
        if level + 1 > self._most:
            self._levels[address] = (level, now)
            wait_s = math.ceil((level + 1 - self._most) / self._drained_per_s)
            raise TooManyRequests("Too many failed logins from this address.", retry_after_s=max(wait_s, 1))
        if len(self._levels) >= _MOST_ADDRESSES:
            # The one that failed longest ago: every count moves its address to the end.
            del self._levels[next(iter(self._levels))]
        self._levels[address] = (level + 1, now)


def address_of(scope: Any, headers: dict[bytes, bytes], *, behind_proxy: bool) -> str:
    """Where a request comes from; a proxy in front says so in the last entry of X-Forwarded-For."""
    forwarded = headers.get(b"x-forwarded-for", b"") if behind_proxy else b""
    if forwarded:
        return forwarded.decode("latin-1").rpartition(",")[2].strip()
    client = scope.get("client")
    return client[0] if client else ""
