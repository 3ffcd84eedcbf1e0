"""What a job moves and where: its sync rules, or the original's bucket and prefix fields, as local paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import UnsetType

from kelpie.config import WorkerConfig
from kelpie.contract import Job, SyncRule
from kelpie.worker.refusals import resolve


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """One rule of a job whose local path was resolved and found harmless."""

    bucket: str
    prefix: str
    local_path: Path
    pattern: str | None = None
    kind: Literal["directory", "file"] = "directory"

    @property
    def directory(self) -> Path:
        """The directory that must exist before the command starts."""
        return self.local_path if self.kind == "directory" else self.local_path.parent


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a job names: what is fetched, kept in step, and delivered."""

    before: tuple[Pairing, ...] = ()
    during: tuple[Pairing, ...] = ()
    after: tuple[Pairing, ...] = ()
    compression: bool = False

    @property
    def pairings(self) -> tuple[Pairing, ...]:
        """All of them, in the order they are used."""
        return self.before + self.during + self.after

    def restores(self, pairing: Pairing) -> bool:
        """Whether what `pairing` fetches is a checkpoint: something this job keeps in step, too."""
        return any((kept.bucket, kept.prefix) == (pairing.bucket, pairing.prefix) for kept in self.during)


def plan_of(job: Job, config: WorkerConfig) -> Plan:
    """Read a job's storage fields; raises DirectoryRefused.

    Looks at the disk (links), so call it off the loop.
    """
    if job.sync is None:
        return _legacy_plan(job, config)
    return Plan(
        before=tuple(_pairings(job.sync.before, config)),
        during=tuple(_pairings(job.sync.during, config)),
        after=tuple(_pairings(job.sync.after, config)),
        compression=job.compression,
    )


def _pairings(rules: list[SyncRule] | UnsetType | None, config: WorkerConfig) -> Iterator[Pairing]:
    for rule in rules or ():
        yield Pairing(
            bucket=rule.bucket,
            prefix=rule.prefix,
            local_path=resolve(rule.local_path, rule.kind, config),
            pattern=rule.pattern,
            kind=rule.kind,
        )


def _legacy_plan(job: Job, config: WorkerConfig) -> Plan:
    inputs = tuple(_legacy_pair(job.input_bucket, job.input_prefix, config.input_dir, config))
    checkpoint = tuple(
        _legacy_pair(job.checkpoint_bucket, job.checkpoint_prefix, config.checkpoint_dir, config)
    )
    output = tuple(_legacy_pair(job.output_bucket, job.output_prefix, config.output_dir, config))
    return Plan(before=inputs + checkpoint, during=checkpoint, after=output, compression=job.compression)


def _legacy_pair(
    bucket: str | UnsetType, prefix: str | UnsetType, directory: Path, config: WorkerConfig
) -> Iterator[Pairing]:
    if bucket:
        local_path = resolve(str(directory), "directory", config)
        yield Pairing(bucket=bucket, prefix=prefix or "", local_path=local_path)
