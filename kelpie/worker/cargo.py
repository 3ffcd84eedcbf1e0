"""A job's data on its way: fetched before the command, kept in step while it runs, delivered after it.

Glue between a job's plan and `kelpie.sync`, which knows no jobs.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from kelpie.config import WorkerConfig
from kelpie.contract import Checkpoint, Job
from kelpie.sync import S3, Fence, Mirror, Rule, Transfer, pull, push_after, take_baseline
from kelpie.worker.clock import text_of
from kelpie.worker.plan import Pairing, Plan


class Depot:
    """The one S3 client of a worker, opened when a job first names a bucket."""

    def __init__(self) -> None:
        self._s3: S3 | None = None

    async def open(self) -> S3:
        """Return the client, open; raises TransferFailed when the AWS settings make no sense."""
        if self._s3 is None:
            self._s3 = await S3().__aenter__()
        return self._s3

    async def close(self) -> None:
        """Close the client, if it was ever opened."""
        if self._s3 is not None:
            await self._s3.__aexit__(None, None, None)
            self._s3 = None


class Cargo:
    """Everything one attempt moves, with the job's patience and under the lease's fence."""

    def __init__(self, plan: Plan, s3: S3, fence: Fence, job: Job, config: WorkerConfig) -> None:
        self._plan, self._s3, self._config = plan, s3, config
        self._mirrors: list[Mirror] = []
        self.transfer = Transfer(
            memory_bytes=config.transfer_memory_mib << 20, patience_s=job.upload_patience_s, fence=fence
        )

    async def fetch(self) -> bool:
        """Download `before`, in order; whether a checkpoint was among it. Raises TransferFailed."""
        is_restored = False
        for pairing in self._plan.before:
            pulled = await pull(self._rule(pairing), self.transfer)
            is_restored |= pulled.files > 0 and self._plan.restores(pairing)
        await self._look()
        return is_restored

    async def keep_in_step(self) -> None:
        """Upload what changes in `during`, until cancelled; raises TransferFailed, grouped."""
        async with asyncio.TaskGroup() as group:
            for mirror in self._mirrors:
                group.create_task(mirror.run(), name="mirror")

    async def flush(self, *, killed_at: float | None) -> None:
        """Store the last state of `during`; `killed_at`: when it was killed. Raises TransferFailed."""
        for mirror in self._mirrors:
            await mirror.flush(killed_at=killed_at)

    async def deliver(self) -> None:
        """Upload `after`, whole and verified; raises TransferFailed."""
        for pairing in self._plan.after:
            await push_after(self._rule(pairing), self.transfer)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest state of `during` in the bucket; None when nothing was stored yet."""
        stored = [mirror.last_stored_at for mirror in self._mirrors if mirror.last_stored_at is not None]
        if not stored:
            return None
        return Checkpoint(
            stored=text_of(datetime.fromtimestamp(max(stored), UTC)),
            files=sum(mirror.uploads for mirror in self._mirrors),
            bytes=sum(mirror.bytes_stored for mirror in self._mirrors),
        )

    async def _look(self) -> None:
        # What was there before the command, downloads included, is not news to the bucket.
        for pairing in self._plan.during:
            rule = self._rule(pairing)
            self._mirrors.append(
                Mirror(
                    rule,
                    self.transfer,
                    await take_baseline(rule),
                    debounce_ms=self._config.file_watcher_debounce_ms,
                    max_wait_ms=self._config.file_watcher_max_wait_ms,
                    stability_check_ms=self._config.file_watcher_stability_check_ms,
                )
            )

    def _rule(self, pairing: Pairing) -> Rule:
        return Rule(
            bucket=self._s3.bucket(pairing.bucket),
            prefix=pairing.prefix,
            local_path=pairing.local_path,
            pattern=pairing.pattern,
            kind=pairing.kind,
            compression=self._plan.compression,
        )
