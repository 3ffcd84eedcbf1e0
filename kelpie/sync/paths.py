"""Keys and paths: which object is which file, and that no key leaves its directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from re import Pattern
from typing import Literal

from kelpie.errors import TransferFailed
from kelpie.patterns import compile_pattern
from kelpie.sync.codec import SUFFIX
from kelpie.sync.disk import disk_faults, is_temporary
from kelpie.sync.objects import Bucket

# Snapshots keep their objects here; a mirror neither fetches nor writes them.
_RESERVED = ".kelpie/"


@dataclass(frozen=True)
class Rule:
    """One pairing of (bucket, prefix) and local path.

    kind "directory": key = prefix + relative path. kind "file": the prefix is
    the key and `local_path` the file. `pattern` is searched in the path
    relative to the directory.
    """

    bucket: Bucket
    prefix: str
    local_path: Path
    pattern: str | None = None
    kind: Literal["directory", "file"] = "directory"
    compression: bool = False

    @property
    def root(self) -> Path:
        """The directory that relative paths begin at."""
        return self.local_path if self.kind == "directory" else self.local_path.parent

    def key_of(self, relative: str) -> str:
        """Return the key of the file at a relative path."""
        key = self.prefix + relative if self.kind == "directory" else self.prefix
        if not self.compression or (self.kind == "file" and key.endswith(SUFFIX)):
            return key
        return key + SUFFIX

    def relative_of(self, key: str) -> str | None:
        """Return the relative path that an object goes to; None for what is no file of ours."""
        name = key.removeprefix(self.prefix)
        if not name or name.endswith("/") or name.startswith(_RESERVED):
            return None
        relative = name.removesuffix(SUFFIX) if self.is_packed(name) else name
        wanted = self._compiled is None or self._compiled.search(relative) or self._compiled.search(key)
        return relative if wanted else None

    def is_packed(self, key: str) -> bool:
        """Say whether an object is to be unpacked on its way down."""
        return self.compression and key.endswith(SUFFIX) and not key.endswith("/" + SUFFIX) and key != SUFFIX

    def wants(self, relative: str) -> bool:
        """Say whether the local file at a relative path belongs to this rule."""
        if self.kind == "file":
            return relative == self.local_path.name
        if relative.startswith(_RESERVED) or is_temporary(relative.rpartition("/")[2]):
            return False
        return self._compiled is None or self._compiled.search(relative) is not None

    @cached_property
    def _compiled(self) -> Pattern[str] | None:
        return compile_pattern(self.pattern) if self.pattern else None


def safe_target(root: Path, relative: str) -> Path:
    """Return the file below `root` for a relative path from a key; raise TransferFailed if it would leave it.

    Looks at the disk (links), so call it off the loop.
    """
    steps = relative.split("/")
    if "\0" in relative or any(step in {"", ".", ".."} for step in steps):
        raise TransferFailed(
            f"The key ending in {relative!r} cannot become a file below {root}: "
            "rename the object, or exclude it with a pattern.",
            retryable=False,
        )
    target = root.joinpath(*steps)
    if not is_inside(target.parent, root):
        raise TransferFailed(
            f"{target} lies behind a link that leads out of {root}: remove the link.", retryable=False
        )
    return target


def is_inside(path: Path, root: Path) -> bool:
    """Say whether a path, all links followed, is `root` or below it."""
    real_root = os.path.realpath(root)
    return os.path.commonpath([real_root, os.path.realpath(path)]) == real_root


def make_parents(root: Path, targets: list[Path]) -> None:
    """Create the directories that the targets go to, and `root` in any case."""
    for parent in {root, *(target.parent for target in targets)}:
        with disk_faults("create", parent):
            parent.mkdir(parents=True, exist_ok=True)
