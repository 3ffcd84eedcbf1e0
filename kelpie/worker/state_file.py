"""KELPIE_STATE_FILE: what this worker does now, in the shape the original's scripts read."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any, Self

import structlog

from kelpie.errors import ConfigError
from kelpie.worker.clock import wall

REMEMBERED_JOBS = 1000
_log = structlog.get_logger(__name__)


class StateFile:
    """The state file of one worker, locked while the worker lives; use it as `with StateFile(path)`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None
        self._writing = asyncio.Lock()
        self._state: dict[str, Any] = {"start": wall(), "jobs": []}

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path.with_name(f"{self.path.name}.lock"))
            self._write()
        except BlockingIOError as error:
            raise ConfigError(
                f"Another worker uses the state file {self.path}: give each worker its own KELPIE_STATE_FILE."
            ) from error
        except OSError as error:
            raise ConfigError(
                f"The state file {self.path} cannot be written ({error.strerror}): "
                "set KELPIE_STATE_FILE to a path that can."
            ) from error
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def started(self, job_id: str, attempt: int) -> None:
        """Note that a job was claimed."""
        self._state["jobs"].append(
            {
                "id": job_id,
                "status": "running",
                "start": wall(),
                "activeUploads": [],
                "activeDownloads": [],
                "attempt": attempt,
            }
        )
        # A worker that lives for months must not rewrite all it ever did.
        del self._state["jobs"][:-REMEMBERED_JOBS]
        await self._save()

    async def exited(self, job_id: str, exit_code: int | None) -> None:
        """Note that a job's command ended; the code is None when a signal ended it."""
        self._job(job_id).update(exitTime=wall(), exitCode=exit_code)
        await self._save()

    async def ended(self, job_id: str, status: str) -> None:
        """Note how an attempt ended: `completed`, `failed`, `interrupted`, `canceled` or `lost`."""
        self._job(job_id).update(status=status, end=wall())
        await self._save()

    def _job(self, job_id: str) -> dict[str, Any]:
        jobs: list[dict[str, Any]] = self._state["jobs"]
        return next(job for job in reversed(jobs) if job["id"] == job_id)

    async def _save(self) -> None:
        async with self._writing:
            try:
                await asyncio.to_thread(self._write)
            except OSError as error:
                # It informs people; a full disk must not end the job that filled it.
                _log.warning("state_file_not_written", file=str(self.path), why=error.strerror)

    def _write(self) -> None:
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with draft.open("w") as file:
                json.dump(self._state, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise


def _locked(path: Path) -> int:
    # Not the state file itself: each write replaces it, and the lock would stay with the old one.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
