"""When a changed file is at rest: pure bookkeeping over readings, with the time handed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kelpie.sync.source import Signature


@dataclass
class _Restless:
    signature: Signature
    since: float
    changed: float
    read: float
    equal: int = 1
    is_urgent: bool = False


class Settling:
    """Files that changed and are waited for; all times in seconds of one monotonic clock.

    A file is at rest after `checks` equal readings, `check_s` apart, with no
    change for `debounce_s`; one that never rests is due after `max_wait_s`.
    """

    def __init__(self, *, debounce_s: float, max_wait_s: float, check_s: float, checks: int) -> None:
        self._quiet_s = max(debounce_s, check_s * (checks - 1))
        self._max_wait_s = max_wait_s
        self._check_s = check_s
        self._checks = checks
        self._files: dict[str, _Restless] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._files))

    def __contains__(self, relative: str) -> bool:
        return relative in self._files

    def reading(self, relative: str, signature: Signature, now: float, *, urgent: bool = False) -> None:
        """Note what a changed file looks like now; `urgent`: it is known to be whole."""
        file = self._files.get(relative)
        if file is None:
            self._files[relative] = _Restless(signature, now, now, now, is_urgent=urgent)
        elif signature != file.signature:
            file.signature, file.changed, file.read, file.equal = signature, now, now, 1
            file.is_urgent = urgent
        elif now - file.read >= 0.8 * self._check_s:
            # Readings that an event caused come closer than the checks and prove less.
            file.read = now
            file.equal += 1

    def forget(self, relative: str) -> None:
        """Stop waiting for a file."""
        self._files.pop(relative, None)

    def due(self, now: float) -> list[str]:
        """Return the files to upload now, the longest waiting first."""
        due = [relative for relative, file in self._files.items() if self._is_due(file, now)]
        return sorted(due, key=lambda relative: self._files[relative].since)

    def _is_due(self, file: _Restless, now: float) -> bool:
        rested = file.equal >= self._checks and now - file.changed >= self._quiet_s
        return file.is_urgent or rested or now - file.since >= self._max_wait_s
