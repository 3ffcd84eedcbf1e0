"""KELPIE_STATE_FILE: what this worker does now, in the shape the original's scripts read."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import structlog
from msgspec import Struct

from kelpie.errors import ConfigError
from kelpie.worker.clock import wall
from kelpie.worker.remains import Origin

REMEMBERED_JOBS = 1000
_log = structlog.get_logger(__name__)


class Occupied(Struct, frozen=True, kw_only=True):
    """A path that a job fills."""

    path: str
    kind: Literal["directory", "file"]
    found: list[str] | None
    """What was there before Kelpie used it; None: too much to note."""


class Unfinished(Struct, frozen=True, kw_only=True):
    """What a worker that died had noted of a job that it had not ended, or not cleaned up after."""

    id: str
    attempt: int
    end: str | None = None
    child: Origin | None = None
    directories: list[Occupied] = []


class StateFile:
    """The state file of one worker, locked while the worker lives; use it as `with StateFile(path)`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None
        self._writing = asyncio.Lock()
        self._state: dict[str, Any] = {"start": wall(), "jobs": []}
        self.unfinished: list[Unfinished] = []
        """What the worker before this one left; told by `__enter__`."""

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.path.with_name(f"{self.path.name}.lock"))
            # Kept in the file until they are seen to: this worker may be killed, too.
            self._state["jobs"] = [job for job in _read(self.path) if self._is_unfinished(job)]
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

    async def occupied(self, job_id: str, paths: list[Occupied]) -> None:
        """Note what a job fills, before it does."""
        if paths:
            self._job(job_id)["directories"] = msgspec.to_builtins(paths)
            await self._save()

    async def spawned(self, job_id: str, child: Origin | None) -> None:
        """Note a job's command; None: it has ended already."""
        if child is not None:
            self._job(job_id)["child"] = msgspec.to_builtins(child)
            await self._save()

    async def exited(self, job_id: str, exit_code: int | None) -> None:
        """Note that a job's command ended; the code is None when a signal ended it."""
        self._job(job_id).update(exitTime=wall(), exitCode=exit_code)
        await self._save()

    async def ended(self, job_id: str, status: str) -> None:
        """Note how an attempt ended: `completed`, `failed`, `interrupted`, `canceled` or `lost`."""
        self._job(job_id).update(status=status, end=wall())
        await self._save()

    async def emptied(self, job_id: str) -> None:
        """Note that nothing of a job is left on disk."""
        if self._job(job_id).pop("directories", None) is not None:
            await self._save()

    async def recovered(self) -> None:
        """Note that everything unfinished has been seen to."""
        for job in self._state["jobs"]:
            job.pop("directories", None)
            if "end" not in job:
                job.update(status="interrupted", end=wall())
        self.unfinished = []
        await self._save()

    def _is_unfinished(self, job: dict[str, Any]) -> bool:
        if "end" in job and not job.get("directories"):
            return False
        try:
            self.unfinished.append(msgspec.convert(job, Unfinished))
        except msgspec.ValidationError as error:
            # The original's jobs have no attempt; it cleaned up by itself, or never.
            _log.warning("job_not_recovered", job_id=job.get("id"), why=str(error))
            return False
        return True

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


def _read(path: Path) -> list[dict[str, Any]]:
    """Every job in the state file of the worker before; none when it cannot be understood."""
    try:
        return msgspec.convert(json.loads(path.read_bytes()), _Jobs).jobs
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        _log.warning(
            "state_file_not_understood",
            file=str(path),
            why=str(error),
            hint="It begins anew; what a worker killed here left behind stays.",
        )
        return []


class _Jobs(Struct):
    """The original's shape, as far as it matters to the next worker."""

    jobs: list[dict[str, Any]] = []


def _locked(path: Path) -> int:
    # Not the state file itself: each write replaces it, and the lock would stay with the old one.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
