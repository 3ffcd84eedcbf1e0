"""What a rule's directory holds right now: one look at the disk, links judged, strangers named.

Everything here blocks; call it off the loop.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kelpie.errors import TransferFailed
from kelpie.sync.disk import disk_faults
from kelpie.sync.paths import Rule, is_inside
from kelpie.sync.source import Signature


@dataclass
class Look:
    """One look: the directory's identity (None: gone), its files, and what was passed over and why."""

    identity: tuple[int, int] | None
    files: dict[str, Signature] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def look(rule: Rule) -> Look:
    """Find every file of the rule."""
    return look_at(rule, [rule.local_path.name if rule.kind == "file" else ""])


def look_at(rule: Rule, relatives: Iterable[str]) -> Look:
    """Look at some paths only; a directory among them is walked, "" is the whole."""
    found = Look(identity_of(rule.root))
    if found.identity is not None:
        walk = _Walk(rule, found)
        for relative in relatives:
            walk.begin(relative)
    return found


def identity_of(directory: Path) -> tuple[int, int] | None:
    """Return (device, inode) of a directory; None if there is none."""
    try:
        status = directory.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def is_gone_alone(path: Path) -> bool:
    """Say whether a file is not there while its directory is: it was removed, not the directory."""
    if identity_of(path.parent) is None:
        return False
    return not is_there(path)


def is_there(path: Path) -> bool:
    """Say whether anything has this name; what cannot be looked at counts as there."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


class _Walk:
    def __init__(self, rule: Rule, found: Look) -> None:
        self._rule = rule
        self._found = found
        self._root = str(rule.root)
        self._real_root = os.path.realpath(rule.root)
        self._above: dict[str, frozenset[str] | None] = {"": frozenset({self._real_root})}

    def begin(self, relative: str) -> None:
        """Visit a path that did not come from a walk: what is above it may be a link."""
        above = self._directories_above(relative.rpartition("/")[0]) if relative else frozenset()
        if above is not None:
            self.visit(relative, above)

    def _directories_above(self, parent: str) -> frozenset[str] | None:
        """Return the real directories a walk would have come through; None if it would not get there."""
        if parent not in self._above:
            above = self._directories_above(parent.rpartition("/")[0])
            real = os.path.realpath(f"{self._root}/{parent}")
            is_reached = above is not None and real not in above and is_inside(Path(real), self._rule.root)
            self._above[parent] = above | {real} if above is not None and is_reached else None
        return self._above[parent]

    def visit(self, relative: str, above: frozenset[str]) -> None:
        path = f"{self._root}/{relative}" if relative else self._root
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode) and relative:
                if not is_inside(Path(path), self._rule.root):
                    self._skip(relative, "link out of the directory")
                    return
                status = os.stat(path)  # noqa: PTH116 - strings: a Path per file doubles the walk's time
            elif not relative:
                status = os.stat(path)  # noqa: PTH116 - the same
        except OSError as error:
            self._unreadable(relative, error)
            return
        if stat.S_ISDIR(status.st_mode):
            self._enter(relative, path, above)
        elif self._rule.wants(relative):
            self._note(relative, status)

    def _enter(self, relative: str, path: str, above: frozenset[str]) -> None:
        if self._rule.kind == "file":
            self._skip(relative, "a directory where the rule says file")
            return
        real = os.path.realpath(path)
        if real in above:
            self._skip(relative, "link to a directory above it")
            return
        try:
            names = os.listdir(path)  # noqa: PTH208 - strings, as above
        except OSError as error:
            self._unreadable(relative, error)
            return
        for name in names:
            self.visit(f"{relative}/{name}" if relative else name, above | {real})

    def _note(self, relative: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            self._skip(relative, "neither file nor directory")
            return
        try:
            relative.encode()
        except UnicodeEncodeError as error:
            raise TransferFailed(
                f"The file name {relative!r} is not UTF-8 and cannot become a key: rename the file.",
                retryable=False,
            ) from error
        self._found.files[relative] = Signature.of(status)

    def _unreadable(self, relative: str, error: OSError) -> None:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            if os.path.islink(f"{self._root}/{relative}"):  # noqa: PTH114 - strings, as above
                self._skip(relative, "link to nothing")
        elif isinstance(error, PermissionError):
            # A volume's lost+found, for one; what the job wrote its worker can read.
            self._skip(relative, "permission denied")
        else:
            with disk_faults("read", self._rule.root / relative):
                raise error

    def _skip(self, relative: str, why: str) -> None:
        self._found.skipped[relative] = why
