"""The lock beside the database: one server at a time, and how local commands find it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from kelpie.errors import StoreError


class ServerAddress(Struct, frozen=True, kw_only=True):
    """Where the server that holds the lock answers, and a secret that only the file's owner can read."""

    pid: int
    url: str = ""
    secret: str = ""


class Lock:
    """An exclusive lock on `<database>.lock`; the kernel gives it back when the process dies."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"The database {database} cannot be opened: {error.strerror} ({error.filename}). "
                "Check that the directory exists and that you may write to it."
            ) from error

    def acquire(self) -> bool:
        """Take the lock; False when another process has it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.publish(ServerAddress(pid=os.getpid()))
        return True

    def publish(self, address: ServerAddress) -> None:
        """Tell local commands where this server answers."""
        content = msgspec.json.encode(address)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, content, 0)

    def holder(self) -> ServerAddress | None:
        """Read who holds the lock; None when it wrote nothing readable."""
        try:
            return msgspec.json.decode(os.pread(self._file, 4096, 0), type=ServerAddress)
        except msgspec.MsgspecError:
            return None

    def release(self) -> None:
        """Give the lock back."""
        os.ftruncate(self._file, 0)
        self.close()

    def close(self) -> None:
        """Close the file without touching what the holder wrote."""
        os.close(self._file)
