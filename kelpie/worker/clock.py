"""The worker's two clocks: boot time for deadlines, wall time for what people read."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def boottime() -> float:
    """Seconds since boot, the time a suspended machine slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def text_of(moment: datetime) -> str:
    """A moment in UTC as on the wire: `2024-04-19T18:53:31.000Z`."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wall() -> str:
    """The wall-clock time now, as on the wire."""
    return text_of(datetime.now(UTC))
