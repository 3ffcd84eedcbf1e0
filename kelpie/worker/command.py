"""The job's command under watch: run, kept in step with the bucket, limited in time, stopped when asked."""

from __future__ import annotations

import asyncio
import json
import signal

import msgspec
import structlog

from kelpie.config import WorkerConfig
from kelpie.contract import Job
from kelpie.errors import TransferFailed
from kelpie.worker.cargo import Cargo
from kelpie.worker.child import Child, ChildExit, build_environment
from kelpie.worker.clock import boottime
from kelpie.worker.lease import Lease
from kelpie.worker.logs import Tail
from kelpie.worker.notice import Notice
from kelpie.worker.outcome import Ending, Row, Why, row_of
from kelpie.worker.progress import ProgressFile
from kelpie.worker.race import pause, unless
from kelpie.worker.remains import mark_of, origin_of
from kelpie.worker.state_file import StateFile

NOTICE_FOLLOWS_S = 2.0
"""A child that died as machines are shut down waits so long for the worker's own notice (rule 13)."""

_LOOK_S = 1.0
_log = structlog.get_logger(__name__)


class Command:
    """Runs a job's command from its start until nothing of it is left."""

    def __init__(
        self,
        *,
        job: Job,
        config: WorkerConfig,
        ending: Ending,
        lease: Lease,
        notice: Notice,
        tail: Tail,
        state: StateFile,
    ) -> None:
        self._job, self._config = job, config
        self._ending, self._lease, self._notice, self._tail = ending, lease, notice, tail
        self._state = state
        self.why = Why.EXITED
        """Why it stopped; decided before the exit code is looked at."""

    async def run(self, progress: ProgressFile, cargo: Cargo | None, *, is_restored: bool) -> ChildExit:
        """Run the command; raises ChildFailed when it cannot be started."""
        environment = self._environment(progress, is_restored=is_restored)
        async with (
            Child(self._job.command, self._job.arguments, environment, self._tail) as child,
            asyncio.TaskGroup() as group,
        ):
            _log.info("started", command=self._job.command, pid=child.pid, restored=is_restored)
            aides = (
                self._ending.guarded(self._keep_in_step(cargo)),
                self._ending.guarded(child.reap_orphans()),
                self._ending.guarded(self._limit_time(child)),
            )
            tasks = [group.create_task(aide, name="beside the command") for aide in aides]
            await self._state.spawned(self._job.id, origin_of(child.pid))
            ended = await self._attend(child)
            for task in tasks:
                task.cancel()
        _log.info("ended", why=self.why, exit_code=ended.code, signal=ended.signal)
        return ended

    async def _attend(self, child: Child) -> ChildExit:
        ended = await unless(self._ending.asked, child.wait())
        if ended is not None and ended.is_like_shutdown:
            await pause(self._ending.asked, NOTICE_FOLLOWS_S)
        self.why = self._ending.why or Why.EXITED
        if ended is not None and self.why is Why.EXITED:
            await child.sweep()
            return ended
        return await self._stop(child, row_of(self.why, None))

    async def _stop(self, child: Child, row: Row) -> ChildExit:
        signum = signal.Signals[self._job.stop_signal] if self._job.stop_signal else row.stop
        _log.info("stopping", why=self.why, signal=signum.name, grace_s=self._job.stop_grace_s)
        begun_at = boottime()
        return await child.stop(
            signum, lambda: min(begun_at + self._job.stop_grace_s, self._notice.child_until)
        )

    async def _keep_in_step(self, cargo: Cargo | None) -> None:
        if cargo is None:
            return
        try:
            await cargo.keep_in_step()
        except* TransferFailed as failures:
            self._ending.ask(Why.UPLOAD, str(failures.exceptions[0]))

    async def _limit_time(self, child: Child) -> None:
        while True:
            # Read anew each time: the limit of a running job can be changed.
            limit_s = self._lease.timeout_s
            left_s = _LOOK_S if limit_s is None else child.started_at + limit_s - boottime()
            if left_s <= 0:
                self._ending.ask(Why.TIMEOUT, f"The command ran longer than {limit_s:g} s.")
                return
            await asyncio.sleep(min(left_s, _LOOK_S))

    def _environment(self, progress: ProgressFile, *, is_restored: bool) -> dict[str, str]:
        config, job = self._config, self._job
        kelpie = {
            **mark_of(job.id, job.attempt, self._state.path),
            "KELPIE_PROGRESS_FILE": str(progress.path),
            "INPUT_DIR": str(config.input_dir.absolute()),
            "OUTPUT_DIR": str(config.output_dir.absolute()),
            "CHECKPOINT_DIR": str(config.checkpoint_dir.absolute()),
            "KELPIE_RESTORED": json.dumps(is_restored),
        }
        if job.progress is not None:
            kelpie["KELPIE_LAST_PROGRESS"] = msgspec.json.encode(job.progress).decode()
        return build_environment(job.environment, kelpie, strip=config.strip_env, keep=config.keep_env)
