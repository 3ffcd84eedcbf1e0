"""The last word on an attempt, sent until the server has answered it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable

import structlog
from msgspec import Struct

from kelpie.client import Client
from kelpie.contract import Checkpoint, Completion, Failure, Interruption, Job, Message, Progress
from kelpie.errors import KelpieError
from kelpie.lifecycle import Outcome, Reason
from kelpie.worker.child import ChildExit
from kelpie.worker.clock import boottime
from kelpie.worker.home import Machine
from kelpie.worker.notice import Notice
from kelpie.worker.outcome import Row

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_ANSWER_S = 10.0
_SHORTEST_ANSWER_S = 0.5
_LONGEST_DETAIL = 4000
_OWN_EXITS = frozenset({Reason.EXIT, Reason.SIGNAL})
_log = structlog.get_logger(__name__)


class Used(Struct, frozen=True, kw_only=True):
    """What an attempt used and left: the fields that every final report shares."""

    bytes_in: int = 0
    bytes_out: int = 0
    compute_s: float = 0.0
    progress: Progress | None = None
    checkpoint: Checkpoint | None = None
    log_tail: str | None = None


class Reporter:
    """Tells the server how one attempt ended."""

    def __init__(self, client: Client, job: Job, machine: Machine, notice: Notice) -> None:
        self._client, self._job, self._machine, self._notice = client, job, machine, notice

    async def report(self, row: Row, ended: ChildExit | None, detail: str | None, used: Used) -> None:
        """Send what the row of the outcome table says, if anything."""
        send = self._message(row, ended, detail, used)
        if send is not None:
            await self._deliver(send)

    def _message(
        self, row: Row, ended: ChildExit | None, detail: str | None, used: Used
    ) -> Callable[[], Awaitable[Message]] | None:
        common = {
            "machine_id": self._machine.machine_id,
            "container_group_id": self._machine.container_group_id,
            "attempt": self._job.attempt or None,
            **{name: getattr(used, name) for name in used.__struct_fields__},
        }
        if row.report is Outcome.COMPLETED:
            return lambda: self._client.completed(self._job.id, Completion(**common))
        if row.report is Outcome.FAILED:
            # The retry rules are for exits of the command's own accord, not for what our signals led to.
            own = ended if row.reason in _OWN_EXITS else None
            failure = Failure(
                **common,
                exit_code=own.code if own else None,
                signal=own.signal if own else None,
                reason=row.reason,
                detail=_encodable(detail),
            )
            return lambda: self._client.failed(self._job.id, failure)
        # The original has no way to give a job back: its lease runs out.
        if row.report is Outcome.INTERRUPTED and self._job.attempt:
            interruption = Interruption(**common, reason=row.reason)
            return lambda: self._client.interrupted(self._job.id, interruption)
        return None

    async def _deliver(self, send: Callable[[], Awaitable[Message]]) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            why = await self._try(send)
            if why is None:
                return
            if pause_s == _FIRST_PAUSE_S:
                _log.warning("report_not_answered", job_id=self._job.id, why=why, hint="It is sent again.")
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            left_s = self._notice.reports_until - boottime()
            if left_s <= 0:
                _log.error("report_given_up", job_id=self._job.id, why=why)
                return
            await asyncio.sleep(min(pause_s * random.uniform(0.5, 1.0), left_s))  # noqa: S311 - jitter

    async def _try(self, send: Callable[[], Awaitable[Message]]) -> str | None:
        """Send once; None when the server has answered, else why not."""
        left_s = self._notice.reports_until - boottime()
        try:
            async with asyncio.timeout(
                _ANSWER_S if left_s == math.inf else max(min(_ANSWER_S, left_s), _SHORTEST_ANSWER_S)
            ):
                await send()
        except TimeoutError:
            return "The server did not answer in time."
        except KelpieError as error:
            if error.is_retryable:
                return error.message
            # An answer, too: the lease is lost, or the server will never take it.
            _log.warning("report_refused", job_id=self._job.id, why=error.message)
        return None


def _encodable(detail: str | None) -> str | None:
    # A file name that is no UTF-8 must not keep the report from being sent.
    return detail.encode(errors="replace").decode()[:_LONGEST_DETAIL] if detail else None
