"""The two clocks of the store (rule 11 of the life of a job).

Leases and delays are measured by the boot-time clock, which counts suspend and
which no change of the wall clock moves, anchored to wall time so that the
numbers survive a restart. Everything a person reads uses wall time.
"""

from __future__ import annotations

import time
from typing import Protocol

_NS_PER_MS = 1_000_000
DRIFT_MS = 1000
"""Wall and lease clock may differ by this much before upkeep anchors them anew."""


class Clock(Protocol):
    """Where time comes from; tests inject their own."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch, UTC; may jump."""

    def boot_ms(self) -> int:
        """Milliseconds since boot, suspend included; never jumps."""


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        """Read CLOCK_REALTIME."""
        return time.time_ns() // _NS_PER_MS

    def boot_ms(self) -> int:
        """Read CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _NS_PER_MS


class LeaseClock:
    """Boot time expressed as wall time by an anchor."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._offset_ms = clock.wall_ms() - clock.boot_ms()

    def now_ms(self) -> int:
        """Milliseconds on the lease clock."""
        return self.clock.boot_ms() + self._offset_ms

    def shift(self, by_ms: int) -> None:
        """Move the anchor; whoever calls this moves every stored lease and delay with it."""
        self._offset_ms += by_ms


def iso(ms: int) -> str:
    """Format as `2024-04-19T18:53:31.000Z`."""
    seconds, millis = divmod(ms, 1000)
    parts = time.gmtime(seconds)
    date = f"{parts[0]:04d}-{parts[1]:02d}-{parts[2]:02d}"
    return f"{date}T{parts[3]:02d}:{parts[4]:02d}:{parts[5]:02d}.{millis:03d}Z"


def iso_or_none(ms: int | None) -> str | None:
    """Format a time that may be unset."""
    return None if ms is None else iso(ms)
