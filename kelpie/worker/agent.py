"""The worker: claim a job, attempt it, claim the next, until told to stop."""

from __future__ import annotations

import asyncio
import importlib
import random
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor

import structlog

import kelpie
from kelpie.client import Client
from kelpie.config import WorkerConfig
from kelpie.contract import Job
from kelpie.errors import InvalidRequest, KelpieError, NotAllowed, Unauthorized
from kelpie.logs import configure_logs
from kelpie.worker.clock import boottime
from kelpie.worker.home import Home, Machine
from kelpie.worker.machine import plain
from kelpie.worker.notice import Notice
from kelpie.worker.outcome import Why, row_of
from kelpie.worker.race import pause, unless
from kelpie.worker.recovery import recover
from kelpie.worker.reports import Reporter, Used
from kelpie.worker.state_file import StateFile

WAIT_S = 25.0
"""How long one poll waits for a job; common proxies cut a connection at 30 s or 60 s."""

EXIT_OK = 0
EXIT_REFUSED = 4
DEFAULT_GROUP = "default"
_THREADS = 64
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
_YOUNG_POLL_S = 1.0
_LAST_ANSWER_S = 0.25
_log = structlog.get_logger(__name__)


async def run(config: WorkerConfig) -> int:
    """Work until told to stop; the exit code. Raises ConfigError when the state file cannot be used."""
    configure_logs(config.log_level)
    notice = Notice(config.shutdown_grace_s)
    handlers = {signal.SIGTERM: notice.leave, signal.SIGINT: notice.drain}
    # A terminal that goes away takes the job's machine with it, unless nohup says otherwise.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = notice.leave
    loop = asyncio.get_running_loop()
    # Names are resolved by these threads, too: transfers that wait for a slow disk must not hold a heartbeat.
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="kelpie"))
    for signum, handler in handlers.items():
        loop.add_signal_handler(signum, handler)
    try:
        with StateFile(config.state_file) as state:
            return await _work(config, notice, state)
    finally:
        for signum in handlers:
            loop.remove_signal_handler(signum)


async def _work(config: WorkerConfig, notice: Notice, state: StateFile) -> int:
    machine = Machine(plain.identity(config), config.container_group_id or DEFAULT_GROUP)
    _log.info("worker_started", server=config.api_url, version=kelpie.__version__, **vars(machine))
    if config.container_group_id is None:
        _log.info("default_container_group", hint="Set KELPIE_CONTAINER_GROUP_ID to work for another one.")
    # No patience of its own: the loops here know the lease, the grace, and when to give up.
    async with Client(config.api_url, config.api_key, patience_s=0) as client:
        home = Home(config=config, client=client, machine=machine, notice=notice, state=state)
        try:
            await recover(home)
            return await Agent(home).run()
        finally:
            if home.depot is not None:
                await home.depot.close()


class Agent:
    """Runs one job after another."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._stopping = home.notice.no_more_claims
        self._trouble: str | None = None
        self._asked_at = 0.0

    async def run(self) -> int:
        """Claim and attempt until told to stop, or until the server refuses this worker for good."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_warm_up(), name="warm up")
            try:
                while job := await self._next_job():
                    await self._attempt(job)
            except (Unauthorized, NotAllowed, InvalidRequest) as error:
                _log.error(
                    "refused", why=error.message, hint="Set KELPIE_API_KEY to a key that may work here."
                )
                return EXIT_REFUSED
        _log.info("worker_stopped")
        return EXIT_OK

    async def _attempt(self, job: Job) -> None:
        from kelpie.worker.attempt import Attempt

        with structlog.contextvars.bound_contextvars(job_id=job.id, attempt=job.attempt):
            await Attempt(self._home, job).run()

    async def _next_job(self) -> Job | None:
        while not self._stopping.is_set():
            begun_at = boottime()
            job = await unless(self._stopping, self._claim(), self._last_answer_s)
            if job is not None and self._stopping.is_set():
                await self._give_back(job)
                return None
            if job is not None:
                return job
            if boottime() - begun_at < WAIT_S / 2:
                # The original server has no long poll: an empty answer comes at once.
                await pause(self._stopping, self._home.config.idle_poll_s)
        return None

    def _last_answer_s(self) -> float:
        """How long an answer is still waited for once told to stop: it may hand out a job already.

        A server that has a job answers at once, so a poll that is older hangs for want of one. Asking
        again with the same claim id would be surer, but the original server hands out another job then.
        """
        return max(self._asked_at + _YOUNG_POLL_S - boottime(), _LAST_ANSWER_S)

    async def _give_back(self, job: Job) -> None:
        """Return a job that was handed out to a worker that had just been told to stop."""
        notice = self._home.notice
        why = notice.why if notice.leaving.is_set() else Why.DRAIN
        _log.info("given_back", job_id=job.id, attempt=job.attempt, why=why)
        reporter = Reporter(self._home.client, job, self._home.machine, notice)
        await reporter.report(row_of(why, None), None, None, Used())

    async def _claim(self) -> Job | None:
        """Ask until the server has answered, or told to stop; None: it has no job now."""
        # The same id over all tries: if an answer was lost on the way, the next one hands out the same job.
        claim_id = str(uuid.uuid4())
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            self._asked_at = boottime()
            try:
                job = await self._home.client.claim(
                    self._home.machine.machine_id,
                    self._home.machine.container_group_id,
                    wait_s=WAIT_S,
                    claim_id=claim_id,
                    version=kelpie.__version__,
                )
            except (Unauthorized, NotAllowed, InvalidRequest):
                raise
            except KelpieError as error:
                self._say_trouble(error.message)
            else:
                self._say_trouble(None)
                return job
            await pause(self._stopping, pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        return None

    def _say_trouble(self, why: str | None) -> None:
        """Say once that no job can be claimed, and once that it works again."""
        if why is not None and self._trouble is None:
            _log.warning("no_answer", why=why, hint="The worker keeps trying.")
        if why is None and self._trouble is not None:
            _log.info("answered_again")
        self._trouble = why


async def _warm_up() -> None:
    # The S3 library loads slowly; better while the first poll waits than when a job does.
    await asyncio.to_thread(importlib.import_module, "kelpie.worker.attempt")
