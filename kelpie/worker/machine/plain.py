"""A computer without a cloud's metadata: its identity is kept on its own disk."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

import structlog

from kelpie.config import WorkerConfig

ID_FILE = "kelpie-machine-id"
_LONGEST_ID = 255
_log = structlog.get_logger(__name__)


def identity(config: WorkerConfig) -> str:
    """The machine id: the configured one, or a stable one made once and kept beside the state file."""
    return config.machine_id or _kept(config.state_file.absolute().with_name(ID_FILE))


def _kept(file: Path) -> str:
    known = _read(file)
    if known:
        return known
    fresh = f"{socket.gethostname()}-{uuid.uuid4()}"
    try:
        _publish(file, fresh)
    except OSError as error:
        # A machine with a new name at each start still works; only its bans and history are forgotten.
        _log.warning("machine_id_not_kept", file=str(file), why=error.strerror, machine_id=fresh)
        return fresh
    return _read(file) or fresh


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()[:_LONGEST_ID]
    except (OSError, UnicodeDecodeError):
        return ""


def _publish(file: Path, fresh: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(f"{fresh}\n")
    try:
        # Two workers that start at once must agree: a link appears whole, and only once.
        os.link(draft, file)
    except FileExistsError:
        if not _read(file):
            draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
