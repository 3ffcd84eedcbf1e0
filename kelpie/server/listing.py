"""What the query of `GET /jobs` asks for."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from kelpie.errors import InvalidFields, Issue

_MS = 1000
_CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)


def label_pairs(texts: list[str] | None) -> tuple[tuple[str, str], ...]:
    """Read `label=k=v`; raises InvalidFields."""
    pairs = []
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise _wrong("label", "Expected KEY=VALUE")
        pairs.append((key, value))
    return tuple(dict.fromkeys(pairs))


def moment_ms(name: str, text: str | None) -> int | None:
    """Read a time as milliseconds; raises InvalidFields."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * _MS)
    except (ValueError, OverflowError) as error:
        raise _wrong(name, "Expected a time such as 2026-01-31T08:00:00Z") from error


def cursor_of(text: str | None) -> tuple[int, int] | None:
    """Read a `next_cursor`; raises InvalidFields."""
    if text is None:
        return None
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise _wrong("cursor", "Expected the next_cursor of an earlier answer")
    return int(match[1]), int(match[2])


def _wrong(name: str, message: str) -> InvalidFields:
    return InvalidFields([Issue("invalid_value", message, ["query", name])])
