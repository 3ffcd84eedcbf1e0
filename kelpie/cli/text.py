"""Text for people: whatever others wrote is made harmless, then said on stderr or shown.

Job names, commands, logs and server messages come from other people; a
terminal obeys control characters in them (retitle the window, hide lines,
answer back). They are shown by their codes instead.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

import rich_click as click

# C0 save tab and newline, DEL, C1, and the marks that reorder text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")
_COLOR = re.compile("\x1b\\[[0-9;]*m")
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_KIB = 1024


def tell(message: str) -> None:
    """Say something to the person at the terminal, on stderr."""
    click.echo(clean(message), err=True)


def clean(text: str) -> str:
    """`text` with every control character but tab and newline shown by its code."""
    return _CONTROL.sub(_code, text)


def one_line(text: str) -> str:
    """`text` made harmless and kept on one line."""
    return clean(text).replace("\n", "\\n").replace("\t", " ")


def log_lines(log: str, last: int) -> list[str]:
    """The `last` lines of a command's output, without colors and overwritten progress bars."""
    lines = _COLOR.sub("", log).rstrip().split("\n")[-last:]
    return [clean(line.rstrip("\r").rpartition("\r")[2]) for line in lines]


def moment(time: str) -> datetime:
    """The point in time a timestamp of the API names."""
    parsed = datetime.fromisoformat(time)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def seconds_between(start: str, end: str | None = None) -> float:
    """Seconds from `start` to `end` (now, when None); clocks that disagree make no negative span."""
    until = moment(end) if end else datetime.now(UTC)
    return max(0.0, (until - moment(start)).total_seconds())


def span(seconds: float) -> str:
    """A duration in its two largest units: `4s`, `3m10s`, `2h5m`, `3d4h`."""
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m{whole % _MINUTE_S}s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S}m"
    return f"{whole // _DAY_S}d{whole % _DAY_S // _HOUR_S}h"


def size(total: int) -> str:
    """A number of bytes for reading: `512 B`, `1.5 MiB`."""
    amount = float(total)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < _KIB:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _KIB
    return f"{amount:.1f} TiB"


def to_the_second(time: str) -> str:
    """A timestamp of the API without its fraction of a second."""
    return re.sub(r"\.\d+Z$", "Z", time)


def count(number: int, noun: str) -> str:
    """A number of things: `1 file`, `3 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _code(match: re.Match[str]) -> str:
    point = ord(match[0])
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}"  # noqa: PLR2004 - one byte, or not
