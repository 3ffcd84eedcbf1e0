"""What the script says of its own progress, in the file that KELPIE_PROGRESS_FILE names."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import structlog

from kelpie.contract import Progress

MAX_BYTES = 4096
_LARGEST = 2**53  # what every JSON reader can hold
_log = structlog.get_logger(__name__)


class ProgressFile:
    """The file a script writes a number 0 to 1 to, or a JSON object with `progress`, `step`, …."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: Progress | None = None
        self._warned = False

    def clear(self) -> None:
        """Forget what an earlier job wrote."""
        self._last = None
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            # A job made a directory of it, say: that must not end the worker.
            self._warn(str(error))

    def read(self) -> Progress | None:
        """The newest progress that made sense; None before the first."""
        try:
            content = _content(self.path)
            if content:
                self._last = _parse(content)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, ArithmeticError, RecursionError) as error:
            self._warn(str(error))
        return self._last

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("progress_ignored", file=str(self.path), why=why)


def _content(path: Path) -> bytes:
    # Without O_NONBLOCK a fifo put there would hold the heartbeat for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("It is not a regular file.")
        content = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_BYTES:
        raise ValueError(f"It is longer than {MAX_BYTES} bytes.")
    return content.strip()


def _parse(content: bytes) -> Progress:
    if content.startswith(b"{"):
        progress = msgspec.json.decode(content, type=Progress)
        # Whatever a server may not be able to store must not cost the heartbeat it rides on.
        if any(abs(count or 0) > _LARGEST for count in (progress.step, progress.total)):
            raise ValueError("A count is too large.")
        return progress
    # msgspec checks the range, and NaN is in none.
    return msgspec.convert({"progress": float(content)}, Progress)
