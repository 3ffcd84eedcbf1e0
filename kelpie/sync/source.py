"""A local file being read for an upload, and whether what was read is one state of it.

Every method blocks; call them off the loop.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from kelpie.sync.codec import Packer, checksum
from kelpie.sync.disk import disk_faults
from kelpie.sync.faults import FileChanged

_STEP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells one state of a file from another without reading it."""

    size: int
    mtime_ns: int
    inode: int
    # Changed by a rename or a chmod too, so it says something, but not "changed".
    ctime_ns: int = field(default=0, compare=False)

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Take the signature from what stat said."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


class Source:
    """Reads a regular file from beginning to end, packed if asked, and knows if it changed meanwhile.

    Exactly the bytes that the file had when it was opened are read: one that
    only grows (a log) still gives a whole earlier state.
    """

    def __init__(self, path: Path, *, compression: bool) -> None:
        self._path = path
        with disk_faults("read", path):
            self._file = os.fdopen(_open(path), "rb", buffering=0)
        status = os.fstat(self._file.fileno())
        if not stat.S_ISREG(status.st_mode):
            self._file.close()
            raise FileChanged(f"{path} is no regular file any more.", retryable=True)
        self.signature = Signature.of(status)
        self._left = status.st_size
        self._packer = Packer() if compression else None
        self._ready = bytearray()
        self._checksum = 0

    def part(self, size: int) -> bytes:
        """Return the next part: exactly `size` bytes (R2 insists on equal parts), the last one shorter."""
        if self._packer is None and not self._ready:
            return self._read(min(size, self._left))
        while len(self._ready) < size and self._packer:
            self._take(self._packer)
        part = bytes(memoryview(self._ready)[:size])
        del self._ready[:size]
        return part

    def require_one_state(self) -> None:
        """Raise FileChanged unless all that was read was in the file at one moment."""
        now = Signature.of(os.fstat(self._file.fileno()))
        if now == self.signature:
            return
        # It changed. If the bytes that were read are all still there it only
        # grew, and they are the whole of an earlier state.
        if now.size >= self.signature.size and self._reads_the_same():
            return
        raise FileChanged(f"{self._path} changed while it was read.", retryable=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _take(self, packer: Packer) -> None:
        self._ready += packer.pack(self._read(min(_STEP_BYTES, self._left)))
        if not self._left:
            self._ready += packer.finish()
            self._packer = None

    def _read(self, amount: int) -> bytes:
        pieces = []
        while amount:
            with disk_faults("read", self._path):
                data = self._file.read(amount)
            if not data:
                raise FileChanged(f"{self._path} became shorter while it was read.", retryable=True)
            pieces.append(data)
            amount -= len(data)
            self._left -= len(data)
            self._checksum = checksum(data, self._checksum)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _reads_the_same(self) -> bool:
        again = 0
        offset = 0
        while offset < self.signature.size:
            amount = min(_STEP_BYTES, self.signature.size - offset)
            data = os.pread(self._file.fileno(), amount, offset)
            if not data:
                return False
            again = checksum(data, again)
            offset += len(data)
        return again == self._checksum


def _open(path: Path) -> int:
    try:
        # O_NONBLOCK: a fifo that took the file's place must not hang us.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileChanged(f"{path} is not there any more.", retryable=True) from error
