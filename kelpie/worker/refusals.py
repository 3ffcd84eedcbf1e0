"""Local paths that a job may not name, because filling or emptying them would harm the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

import kelpie
from kelpie.config import WorkerConfig
from kelpie.errors import KelpieError

# Mounted volumes and what images use for data stay allowed: /checkpoint, /data, /workspace, /mnt/x, /tmp/x.
_ONLY_THEMSELVES = """
/ /dev /dev/shm /home /media /mnt /opt /root /run /srv /tmp /usr /usr/local /usr/src /var /var/tmp
"""
_WITH_ALL_BELOW = """
/bin /boot /etc /lib /lib32 /lib64 /proc /sbin /sys /usr/bin /usr/include /usr/lib /usr/lib64 /usr/libexec
/usr/local/bin /usr/local/lib /usr/sbin /usr/share /var/lib/dpkg /var/log
"""
_ONLY_ITSELF = frozenset(map(Path, _ONLY_THEMSELVES.split()))
_WHOLE = tuple(map(Path, _WITH_ALL_BELOW.split()))
_DEVICES, _SHARED_MEMORY = Path("/dev"), Path("/dev/shm")  # noqa: S108


class DirectoryRefused(KelpieError):
    """A job names a path that must not be used, or that cannot be; the message says which and why."""

    code = "directory-refused"


def resolve(local_path: str, kind: Literal["directory", "file"], config: WorkerConfig) -> Path:
    """Return the real, absolute path behind a job's `local_path`; raises DirectoryRefused."""
    if not local_path or "\0" in local_path or ".." in Path(local_path).parts:
        raise DirectoryRefused(f"The local path {local_path!r} is refused: write it whole and without `..`.")
    try:
        path = _real(Path(local_path), kind)
    except (OSError, RuntimeError) as error:
        raise DirectoryRefused(f"The local path {local_path} cannot be resolved: {error}.") from error
    why = _objection(path, kind, config)
    if why:
        via = "" if str(path) == local_path else f" (really {path})"
        raise DirectoryRefused(f"The local path {local_path}{via} is refused: it {why}. Name another one.")
    return path


def _real(path: Path, kind: Literal["directory", "file"]) -> Path:
    if kind == "file":
        # The file itself is replaced by rename; only a link on the way to it leads elsewhere.
        return Path(os.path.realpath(path.parent)) / path.name
    return Path(os.path.realpath(path))


def _objection(path: Path, kind: Literal["directory", "file"], config: WorkerConfig) -> str | None:
    below_dev = path.is_relative_to(_DEVICES) and not path.is_relative_to(_SHARED_MEMORY)
    objections = {
        "belongs to the system": path in _ONLY_ITSELF
        or below_dev
        or any(path.is_relative_to(whole) for whole in _WHOLE),
        "is a directory, and the rule says it is a file": kind == "file" and path.is_dir(),
        "is the home directory": path == _home(),
        "is the worker's working directory": path == Path.cwd(),
        "holds files of the worker itself": any(file.is_relative_to(path) for file in _own_files(config)),
    }
    return next((why for why, applies in objections.items() if applies), None)


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except RuntimeError:
        return None  # a container under a user id that has no name has no home either


def _own_files(config: WorkerConfig) -> tuple[Path, ...]:
    own = (config.state_file, Path(sys.executable), Path(sys.prefix), Path(kelpie.__file__))
    return tuple(found for file in own for found in (file.absolute(), file.resolve()))
