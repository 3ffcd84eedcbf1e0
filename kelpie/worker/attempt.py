"""One attempt: prepare, run the command, store what it made, and say how it ended.

Lease, command and sync live in one TaskGroup; any of them may ask the `Ending`
to stop the attempt. What follows from why it stopped is read off the outcome
table, and only there.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from kelpie.contract import Checkpoint, Job, Progress
from kelpie.errors import ChildFailed, TransferFailed
from kelpie.worker.cargo import Cargo, Depot
from kelpie.worker.child import ChildExit
from kelpie.worker.command import Command
from kelpie.worker.finish import Finish
from kelpie.worker.home import Home
from kelpie.worker.lease import Lease
from kelpie.worker.locks import DirectoryBusy
from kelpie.worker.logs import Tail
from kelpie.worker.outcome import Ending, Row, Why, row_of
from kelpie.worker.plan import Plan, plan_of
from kelpie.worker.progress import ProgressFile
from kelpie.worker.race import unless
from kelpie.worker.refusals import DirectoryRefused
from kelpie.worker.reports import Reporter, Used
from kelpie.worker.workspace import Workspace

_log = structlog.get_logger(__name__)


class Attempt:
    """One machine's try at a job; once `run` returns it is settled and nothing of it is left."""

    def __init__(self, home: Home, job: Job) -> None:
        self._home, self._job = home, job
        self._ending = Ending()
        self._lease = Lease(home.client, job, home.machine, self._ending, self._news)
        self._progress = ProgressFile(home.state.path.with_name(f"{home.state.path.name}.progress"))
        self._tail = Tail()
        self._workspace: Workspace | None = None
        self._cargo: Cargo | None = None
        self._is_restored = False
        self._why: Why | None = None
        self._exit: ChildExit | None = None

    async def run(self) -> None:
        """Take the job from its claim to its report."""
        _log.info("claimed")
        # Before the first heartbeat: what the job before said is not this one's.
        self._progress.clear()
        await self._home.state.started(self._job.id, self._job.attempt)
        try:
            row = await self._live()
            await self._report(row)
        finally:
            await self._leave_nothing()

    async def _live(self) -> Row:
        async with asyncio.TaskGroup() as group:
            loops = (self._lease.renew(), self._lease.guard(), self._lease.listen(), self._heed_notice())
            tasks = [group.create_task(self._ending.guarded(loop), name="lease") for loop in loops]
            await self._ending.guarded(self._work())
            row = await self._settle()
            for task in tasks:
                task.cancel()
        return row

    async def _heed_notice(self) -> None:
        await self._home.notice.leaving.wait()
        self._ending.ask(self._home.notice.why)

    async def _work(self) -> None:
        await self._prepare()
        if not self._ending.asked.is_set():
            await self._run_command()

    async def _prepare(self) -> None:
        config = self._home.config
        try:
            plan = await asyncio.to_thread(plan_of, self._job, config)
            standard = (config.input_dir, config.output_dir, config.checkpoint_dir)
            self._workspace = Workspace(plan, self._home.found, standard)
            # Not cut short when asked to stop: locks must not be taken behind our back.
            await asyncio.to_thread(self._workspace.open)
            await self._home.state.occupied(self._job.id, self._workspace.occupied())
            await unless(self._ending.asked, self._fetch(plan))
        except DirectoryBusy as error:
            self._ending.ask(Why.DIRECTORY_BUSY, error.message)
        except (DirectoryRefused, TransferFailed) as error:
            self._ending.ask(Why.DOWNLOAD, error.message)

    async def _fetch(self, plan: Plan) -> None:
        if plan.pairings:
            home = self._home
            home.depot = home.depot or Depot()
            self._cargo = Cargo(plan, await home.depot.open(), self._lease.fence, self._job, home.config)
            self._is_restored = await self._cargo.fetch()

    async def _run_command(self) -> None:
        home = self._home
        command = Command(
            job=self._job,
            config=home.config,
            ending=self._ending,
            lease=self._lease,
            notice=home.notice,
            tail=self._tail,
            state=home.state,
        )
        try:
            self._exit = await command.run(self._progress, self._cargo, is_restored=self._is_restored)
        except ChildFailed as error:
            self._ending.ask(Why.SPAWN, error.message)
            return
        self._why = command.why
        await home.state.exited(self._job.id, self._exit.code)

    async def _settle(self) -> Row:
        finish = Finish(self._cargo, self._ending, self._lease, self._home.notice)
        # Without an exit it never ran, and nothing changed, or a fault of ours cut it short.
        ended, killed_at = (self._exit.ended, self._exit.killed_at) if self._exit else (None, time.time())
        self._why = self._why or self._ending.why or Why.WORKER_FAULT
        while True:
            row = row_of(self._why, ended)
            is_stored = await finish.store(row, killed_at=killed_at)
            newer = self._ending.why
            stands = is_stored and not self._ending.gone.is_set()
            if newer is None or newer not in row.yields_to or stands:
                return row
            self._why = newer

    async def _report(self, row: Row) -> None:
        cargo, home = self._cargo, self._home
        progress, checkpoint = self._news()
        used = Used(
            bytes_in=cargo.transfer.bytes_in if cargo else 0,
            bytes_out=cargo.transfer.bytes_out if cargo else 0,
            compute_s=self._exit.ran_s if self._exit else 0.0,
            progress=progress,
            checkpoint=checkpoint,
            log_tail=self._tail.text() or None,
        )
        _log.info(
            "settled",
            why=self._why,
            report=row.report,
            reason=row.reason,
            counts=row.counts,
            bans=row.bans,
            detail=self._ending.detail,
        )
        await Reporter(home.client, self._job, home.machine, home.notice).report(
            row, self._exit, self._ending.detail, used
        )
        await home.state.ended(self._job.id, row.report or self._why or "")

    def _news(self) -> tuple[Progress | None, Checkpoint | None]:
        return self._progress.read(), self._cargo.checkpoint if self._cargo else None

    async def _leave_nothing(self) -> None:
        if self._workspace is not None:
            try:
                await asyncio.to_thread(self._workspace.empty)
                # Before the locks go: what comes into the directories later is not this job's.
                await self._home.state.emptied(self._job.id)
            finally:
                await asyncio.to_thread(self._workspace.close)
