"""The directories of one job: made, locked, and emptied afterwards so that nothing is left to the next."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import structlog

from kelpie.worker.home import Found
from kelpie.worker.locks import Locks
from kelpie.worker.plan import Plan
from kelpie.worker.refusals import DirectoryRefused
from kelpie.worker.state_file import Occupied

NOTED_ENTRIES = 10_000
"""So many entries of others are noted for a recovery; the state file is written anew many times a job."""

_log = structlog.get_logger(__name__)


class Workspace:
    """What one job uses on disk. Every method looks at the disk, so call it off the loop."""

    def __init__(self, plan: Plan, found: Found, standard: Iterable[Path] = ()) -> None:
        self._directories = sorted(
            {pairing.local_path for pairing in plan.pairings if pairing.kind == "directory"}
        )
        self._files = sorted({pairing.local_path for pairing in plan.pairings if pairing.kind == "file"})
        self._standard = tuple(standard)
        self._found = found
        self._locks = Locks()
        self._is_open = False

    def open(self) -> None:
        """Make every directory and lock it; raises DirectoryRefused, DirectoryBusy."""
        for directory in (*self._directories, *(file.parent for file in self._files)):
            _make(directory)
        for directory in self._standard:
            _make_if_possible(directory)
        self._locks.take(self._directories, self._files)
        for directory in self._directories:
            self._look(directory, _everything_in(directory))
        for file in self._files:
            self._look(file, [str(file)] if file.exists() else [])
        self._is_open = True

    def occupied(self) -> list[Occupied]:
        """What to note so that a worker that starts after this one's death can empty it."""
        return [
            *(
                Occupied(path=str(path), kind="directory", found=self._noted(path))
                for path in self._directories
            ),
            *(Occupied(path=str(path), kind="file", found=self._noted(path)) for path in self._files),
        ]

    def empty(self) -> None:
        """Remove what the job left in its directories; never across devices or through links."""
        if not self._is_open:
            return  # busy or refused: what is there is somebody else's
        for directory in self._directories:
            _empty(directory, self._found.get(directory, frozenset()))
        for file in self._files:
            if str(file) not in self._found.get(file, frozenset()):
                _remove(str(file))

    def close(self) -> None:
        """Let other workers use the directories."""
        self._locks.release()

    def _noted(self, path: Path) -> list[str] | None:
        found = self._found.get(path, frozenset())
        return sorted(found) if len(found) <= NOTED_ENTRIES else None

    def _look(self, path: Path, entries: list[str]) -> None:
        if path in self._found:
            return
        made_now = {*map(str, self._directories), *(str(file.parent) for file in self._files)}
        self._found[path] = here = frozenset(entries) - made_now
        if here:
            _log.warning(
                "not_empty",
                path=str(path),
                entries=len(here),
                hint="Kelpie leaves what it found there, and the job can see it.",
            )


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DirectoryRefused(f"The directory {directory} cannot be made: {error.strerror}.") from error


def _make_if_possible(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # INPUT_DIR and its sisters are promised to every command, but this job names no data there.
        _log.info("standard_directory_missing", directory=str(directory), why=error.strerror)


def _everything_in(directory: Path) -> list[str]:
    """Whatever is below `directory`, parents first; a link or another device is not entered."""
    device = directory.lstat().st_dev
    found: list[str] = []
    todo = [str(directory)]
    for parent in todo:  # grows as it goes: no recursion, however deep a job nests
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    found.append(entry.path)
                    if (
                        entry.is_dir(follow_symlinks=False)
                        and entry.stat(follow_symlinks=False).st_dev == device
                    ):
                        todo.append(entry.path)
        except OSError as error:
            _log.warning("directory_not_read", directory=parent, why=error.strerror)
    return found


def _empty(directory: Path, keep: frozenset[str]) -> None:
    if directory.is_symlink() or not directory.is_dir():
        _log.warning("directory_gone", directory=str(directory))
        return
    device = directory.stat().st_dev
    for path in reversed(_everything_in(directory)):
        if path not in keep:
            _remove(path, device)


def _remove(path: str, device: int | None = None) -> None:
    try:
        found = os.lstat(path)
        if device is not None and found.st_dev != device:
            _log.warning("other_device_left", path=path)
        elif stat.S_ISDIR(found.st_mode):
            os.rmdir(path)  # noqa: PTH106 - text: a job may leave a million of them
        else:
            os.unlink(path)  # noqa: PTH108 - text: a job may leave a million of them
    except FileNotFoundError:
        pass
    except OSError as error:
        # What is left is seen and said at the next use; it must not stop the worker now.
        _log.warning("not_removed", path=path, why=error.strerror)
