"""The local side of a transfer: blocking calls off the loop, temporary files, atomic publication."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from kelpie.errors import TransferFailed
from kelpie.sync.faults import disk_refused

P = ParamSpec("P")
T = TypeVar("T")

_TEMPORARY = ".kelpie-download-"
# What must stay free when gzip data is unpacked, so that a bomb does not stop the machine.
_RESERVE_BYTES = 64 << 20
_HASH_BYTES = 1 << 20


async def off_loop(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a short blocking call in a thread; a cancellation is raised only once the call has ended.

    Otherwise the caller would close a descriptor that the thread is about to
    write to, and the number may belong to another file by then.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({work})
        if not work.cancelled():
            work.exception()  # seen, so that asyncio does not report it as lost
        raise


@contextmanager
def disk_faults(doing: str, path: Path) -> Iterator[None]:
    """Translate the file system's errors: `doing` is "write", "read", …."""
    try:
        yield
    except OSError as error:
        raise disk_refused(doing, path, error) from error


def is_temporary(name: str) -> bool:
    """Say whether a file name is one of a download in progress."""
    return name.startswith(_TEMPORARY)


class Arrival:
    """A file on its way to `target`: written under a temporary name beside it, then published or discarded.

    Every method blocks; call them off the loop.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        # Only random: a long name and a suffix could exceed what a file system takes.
        self.path = target.with_name(_TEMPORARY + secrets.token_hex(8))
        with disk_faults("write", target):
            self._file = self.path.open("xb+", buffering=0)

    def write(self, data: bytes | bytearray, start: int) -> None:
        """Write all of `data` at the offset `start`."""
        view = memoryview(data)
        with disk_faults("write", self._target):
            while view:
                written = os.pwrite(self._file.fileno(), view, start)
                view, start = view[written:], start + written

    def read(self, amount: int, start: int) -> bytes:
        """Read up to `amount` bytes at the offset `start`."""
        with disk_faults("read", self.path):
            return os.pread(self._file.fileno(), amount, start)

    def update(self, digest: Any, start: int, end: int) -> None:
        """Feed a range of the file to a hashlib digest."""
        while start < end and (data := self.read(min(_HASH_BYTES, end - start), start)):
            digest.update(data)
            start += len(data)

    def publish(self, modified: float) -> None:
        """Make the bytes durable, then let the file appear under its name, whole and at once."""
        with disk_faults("write", self._target):
            os.fsync(self._file.fileno())
            os.utime(self._file.fileno(), (modified, modified))
            self.path.replace(self._target)

    def close(self) -> None:
        """Close the file, and remove it if it was not published."""
        self._file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def store_whole(target: Path, data: bytes | bytearray, modified: float, md5: str | None) -> bool:
    """Publish a small file in one go; False, and nothing done, if it has not the given MD5."""
    if md5 is not None and hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
        return False
    arrival = Arrival(target)
    try:
        arrival.write(data, 0)
        arrival.publish(modified)
    finally:
        arrival.close()
    return True


def require_space(directory: Path, needed_bytes: int) -> None:
    """Raise a final TransferFailed unless `directory` has room for so many bytes."""
    with disk_faults("use", directory):
        free = shutil.disk_usage(directory).free
    if needed_bytes > free:
        raise TransferFailed(
            f"No space left on the disk: {directory} has {free >> 20} MiB free and "
            f"{needed_bytes >> 20} MiB are needed. Use a larger disk.",
            retryable=False,
        )


def require_reserve(directory: Path, wanted_bytes: int) -> None:
    """Raise a final TransferFailed if unpacking so many more bytes would fill the disk."""
    require_space(directory, wanted_bytes + _RESERVE_BYTES)
