"""One user per directory: two workers on one machine never share or overlap what they fill and empty.

A directory is locked alone, all its ancestors together with others: so
whoever holds `/data` keeps everybody out of `/data/x`, and the other way
round. The kernel drops the locks of a process that dies, however it dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import socket
from collections.abc import Iterable
from pathlib import Path

import structlog

from kelpie.errors import KelpieError

_log = structlog.get_logger(__name__)


class DirectoryBusy(KelpieError):
    """Another worker on this machine uses a directory of the job, or one above or below it."""

    code = "directory-busy"


class Locks:
    """The locks one attempt holds."""

    def __init__(self) -> None:
        self._descriptors: dict[tuple[int, int], int] = {}
        self._names: dict[str, socket.socket] = {}

    def take(self, directories: Iterable[Path], files: Iterable[Path]) -> None:
        """Lock existing directories, and files; raises DirectoryBusy with nothing held."""
        try:
            alone = sorted(set(directories))
            # First those that are used alone: an ancestor that is one of them is then held already.
            for directory in alone:
                self._hold(directory, fcntl.LOCK_EX)
            names = sorted(set(files))
            for above in sorted({parent for path in (*alone, *names) for parent in path.parents}):
                self._hold(above, fcntl.LOCK_SH)
            for name in names:
                self._hold_name(name)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go of everything."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        for name in self._names.values():
            name.close()
        self._descriptors.clear()
        self._names.clear()

    def _hold(self, directory: Path, how: int) -> None:
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            return  # above a directory of ours, and unreadable: nobody else like us gets at it either
        found = os.fstat(descriptor)
        identity = (found.st_dev, found.st_ino)
        # One directory under two names (a bind mount) is one lock: two would exclude each other.
        if identity in self._descriptors:
            os.close(descriptor)
            return
        self._descriptors[identity] = descriptor
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DirectoryBusy(f"Another worker on this machine uses {directory}.") from error
        except OSError as error:
            # Some network file systems lock no directories; a job must still run there.
            _log.warning("directory_not_locked", directory=str(directory), why=error.strerror)

    def _hold_name(self, file: Path) -> None:
        if str(file) in self._names:
            return
        # A file that does not exist yet cannot be locked, and one that is replaced loses its lock: a
        # name in the kernel stands for it, which goes with the process and leaves nothing behind.
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._names[str(file)] = name
        try:
            name.bind(b"\0kelpie-file-" + hashlib.sha256(os.fsencode(file)).hexdigest().encode())
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise DirectoryBusy(f"Another worker on this machine uses {file}.") from error
            _log.warning("file_not_locked", file=str(file), why=error.strerror)
