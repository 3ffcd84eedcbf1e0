"""The right of one attempt to act for its job: renewed, watched, and its writes fenced without it.

Three loops: `renew` sends heartbeats, `listen` long-polls for a cancel, and
`guard` shuts the fence when the worker's own deadline passes. What the loss of
the lease means for the child is the outcome table's business.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

import structlog

from kelpie.client import Client
from kelpie.contract import Checkpoint, Heartbeat, HeartbeatAnswer, Job, Progress
from kelpie.errors import KelpieError, LeaseLost, NotAllowed, NotFound, Unauthorized
from kelpie.lifecycle import JobStatus, lease_s
from kelpie.sync.fence import Fence
from kelpie.worker.clock import boottime
from kelpie.worker.home import Machine
from kelpie.worker.outcome import Ending, Why

_MARGIN_SHARE = 0.1
_MARGIN_S = 0.5
# Short, because a sleep does not count the time a suspended machine slept, and the deadline does.
_LOOK_S = 0.25
_SIGNAL_WAIT_S = 25.0
_SIGNAL_PAUSE_S = 2.0
_LONGEST_ANSWER_S = 10.0
_SHORTEST_ANSWER_S = 2.0
_LONGEST_PAUSE_S = 2.0
_log = structlog.get_logger(__name__)


def own_deadline(sent_at: float, heartbeat_interval_s: float) -> float:
    """Boot time past which nothing may be written, when the heartbeat sent at `sent_at` was accepted."""
    lasts_s = lease_s(heartbeat_interval_s)
    return sent_at + lasts_s - max(_MARGIN_SHARE * lasts_s, _MARGIN_S)


class Lease:
    """The lease of one attempt; `fence` is open while writing is safe."""

    def __init__(
        self,
        client: Client,
        job: Job,
        machine: Machine,
        ending: Ending,
        news: Callable[[], tuple[Progress | None, Checkpoint | None]] = lambda: (None, None),
    ) -> None:
        self._client, self._job, self._machine, self._ending, self._news = client, job, machine, ending, news
        # Until the first heartbeat is accepted nobody knows how old the claim is.
        self.deadline = -math.inf
        self.fence = Fence(self.is_valid)
        self.fence.shut()
        self.timeout_s = job.timeout_s
        self._now = asyncio.Event()
        self._trouble = ""

    @property
    def is_legacy(self) -> bool:
        """Whether the server is the original: it numbers no attempts and has none of our routes."""
        return self._job.attempt == 0

    def is_valid(self) -> bool:
        """Whether this worker may still write, by its own clock."""
        return boottime() < self.deadline

    async def renew(self) -> None:
        """Send heartbeats until the job is not this attempt's any more."""
        while not self._ending.gone.is_set():
            sent_at = boottime()
            renewed = await self._beat(sent_at)
            pause_s = (
                sent_at + self._job.heartbeat_interval - boottime() if renewed else self._retry_pause_s()
            )
            await self._pause(pause_s)

    async def guard(self) -> None:
        """Shut the fence whenever the deadline has passed; an accepted heartbeat opens it again."""
        while True:
            if self.fence.is_open and not self.is_valid():
                self.fence.shut()
            await asyncio.sleep(max(0.0, min(_LOOK_S, self.deadline - boottime())) or _LOOK_S)

    async def listen(self) -> None:
        """Hear of a cancel at once, where the server can tell; heartbeats tell anyway."""
        while not self.is_legacy and not self._ending.gone.is_set():
            asked_at = boottime()
            try:
                signal = await self._client.signal(
                    self._job.id,
                    attempt=self._job.attempt,
                    machine_id=self._machine.machine_id,
                    wait_s=_SIGNAL_WAIT_S,
                )
            except NotFound:
                return
            except KelpieError:
                signal = None
            if signal is not None and signal.status == JobStatus.CANCELED:
                self._lose(Why.CANCELED)
            elif signal is not None and not signal.live:
                # A lease that ran out can be taken back: only the heartbeat's answer is final.
                self._now.set()
            if boottime() - asked_at < _SIGNAL_PAUSE_S:
                await asyncio.sleep(_SIGNAL_PAUSE_S)

    async def _beat(self, sent_at: float) -> bool:
        progress, checkpoint = self._news()
        report = Heartbeat(
            machine_id=self._machine.machine_id,
            container_group_id=self._machine.container_group_id,
            attempt=self._job.attempt or None,
            progress=progress,
            checkpoint=checkpoint,
        )
        try:
            # A connection that hangs must not use up the lease: another one may get through.
            async with asyncio.timeout(self._answer_s()):
                answer = await self._client.heartbeat(self._job.id, report)
        except TimeoutError:
            _log.warning("heartbeat_unanswered", job_id=self._job.id)
        except KelpieError as error:
            self._refused(error)
        else:
            return self._accepted(answer, sent_at)
        return False

    def _accepted(self, answer: HeartbeatAnswer, sent_at: float) -> bool:
        if answer.status == JobStatus.CANCELED:
            self._lose(Why.CANCELED)
            return False
        if self._trouble:
            _log.info("heartbeat_accepted_again", job_id=self._job.id)
        self._trouble = ""
        self.deadline = own_deadline(sent_at, self._job.heartbeat_interval)
        if answer.timeout_s is not None:
            self.timeout_s = answer.timeout_s
        if self.is_valid():
            self.fence.open()
        return True

    def _refused(self, error: KelpieError) -> None:
        if error.message != self._trouble:
            # Once per trouble: a server that is away for an hour is one fact, not a thousand.
            _log.warning("heartbeat_not_accepted", job_id=self._job.id, why=error.message)
        self._trouble = error.message
        if isinstance(error, LeaseLost):
            self._lose(
                Why.CANCELED if error.job_status == JobStatus.CANCELED else Why.LEASE_LOST, error.message
            )
        elif isinstance(error, NotFound) and not self.is_legacy:
            self._lose(Why.LEASE_LOST, error.message)
        elif isinstance(error, Unauthorized | NotAllowed) and not self.is_valid():
            # A key that was revoked comes back to nobody; the job is another machine's by now.
            self._lose(Why.LEASE_LOST, error.message)

    def _lose(self, why: Why, detail: str | None = None) -> None:
        if why is Why.LEASE_LOST:
            self.deadline = -math.inf
            self.fence.shut()
        self._ending.ask(why, detail)

    def _answer_s(self) -> float:
        return min(max(float(self._job.heartbeat_interval), _SHORTEST_ANSWER_S), _LONGEST_ANSWER_S)

    def _retry_pause_s(self) -> float:
        longest_s = min(self._job.heartbeat_interval / 4, _LONGEST_PAUSE_S)
        return longest_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    async def _pause(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(max(pause_s, 0.0)):
                await self._now.wait()
        except TimeoutError:
            return
        self._now.clear()
