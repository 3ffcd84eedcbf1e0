"""How an attempt ends: why it stopped, and the one table from that to everything that follows.

No function anywhere else decides an outcome.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import Enum, StrEnum

import structlog

from kelpie.lifecycle import Outcome, Reason

_log = structlog.get_logger(__name__)


class Why(StrEnum):
    """Why an attempt stopped; decided before the exit code is looked at."""

    EXITED = "exited"
    SPAWN = "spawn"
    TIMEOUT = "timeout"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    CANCELED = "canceled"
    NOTICE = "notice"
    DRAIN = "drain"
    WORKER_FAULT = "worker-fault"
    DIRECTORY_BUSY = "directory-busy"
    LEASE_LOST = "lease-lost"


class Ended(StrEnum):
    """How a child ended; it matters only when nobody made it stop."""

    ZERO = "zero"
    NONZERO = "nonzero"
    SIGNAL = "signal"


class Flush(Enum):
    """What of `during` is still stored once the child is gone."""

    ALL = "all"
    STOPPED = "stopped"
    """All if the child ended within its grace, and only what was at rest if it had to be killed."""
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the outcome table."""

    flush: Flush
    after: bool
    report: Outcome | None
    """None: nothing is reported."""
    reason: Reason | None = None
    counts: bool = False
    bans: bool = False
    stop: signal.Signals = signal.SIGTERM
    """What a child that still runs is sent, unless its job names another signal."""
    yields_to: frozenset[Why] = frozenset()
    """What takes this row's place when it happens before everything is stored."""


_GONE = frozenset({Why.CANCELED, Why.LEASE_LOST})
_UNFINISHED = frozenset({Why.NOTICE, Why.DRAIN, Why.UPLOAD, Why.WORKER_FAULT})


def _failed(flush: Flush, reason: Reason, *, bans: bool) -> Row:
    return Row(
        flush=flush,
        after=False,
        report=Outcome.FAILED,
        reason=reason,
        counts=True,
        bans=bans,
        yields_to=_GONE,
    )


def _given_back(flush: Flush, reason: Reason) -> Row:
    return Row(flush=flush, after=False, report=Outcome.INTERRUPTED, reason=reason, yields_to=_GONE)


TABLE: dict[tuple[Why, Ended | None], Row] = {
    (Why.EXITED, Ended.ZERO): Row(
        flush=Flush.ALL, after=True, report=Outcome.COMPLETED, yields_to=_GONE | _UNFINISHED
    ),
    (Why.EXITED, Ended.NONZERO): _failed(Flush.ALL, Reason.EXIT, bans=True),
    (Why.EXITED, Ended.SIGNAL): _failed(Flush.ALL, Reason.SIGNAL, bans=True),
    (Why.SPAWN, None): _failed(Flush.NONE, Reason.SPAWN, bans=True),
    (Why.TIMEOUT, None): _failed(Flush.STOPPED, Reason.TIMEOUT, bans=False),
    (Why.DOWNLOAD, None): _failed(Flush.NONE, Reason.DOWNLOAD, bans=False),
    (Why.UPLOAD, None): _failed(Flush.STOPPED, Reason.UPLOAD, bans=False),
    (Why.CANCELED, None): Row(
        # Flushed although nobody waits for it, so that a retry can go on from there.
        flush=Flush.STOPPED,
        after=False,
        report=None,
        stop=signal.SIGINT,
        yields_to=frozenset({Why.LEASE_LOST}),
    ),
    (Why.NOTICE, None): _given_back(Flush.STOPPED, Reason.NOTICE),
    (Why.DRAIN, None): _given_back(Flush.STOPPED, Reason.DRAIN),
    (Why.WORKER_FAULT, None): _given_back(Flush.STOPPED, Reason.WORKER_FAULT),
    (Why.DIRECTORY_BUSY, None): _given_back(Flush.NONE, Reason.DIRECTORY_BUSY),
    (Why.LEASE_LOST, None): Row(flush=Flush.NONE, after=False, report=None),
}
"""(why it stopped, how the child ended) → what follows; None: however it ended."""


def row_of(why: Why, ended: Ended | None) -> Row:
    """The row of the table for an attempt that stopped so."""
    return TABLE[why, ended if why is Why.EXITED else None]


class Ending:
    """Why one attempt must stop: the first cause stands, save that a lost right to go on beats it."""

    def __init__(self) -> None:
        self.why: Why | None = None
        self.detail: str | None = None
        self.asked = asyncio.Event()
        """Set once there is any cause to stop."""
        self.gone = asyncio.Event()
        """Set once the job is not this attempt's any more."""

    def ask(self, why: Why, detail: str | None = None) -> None:
        """Name a cause to stop."""
        if self.why is None or (why in _GONE and self.why not in _GONE):
            self.why, self.detail = why, detail
        if why in _GONE:
            self.gone.set()
        self.asked.set()

    async def guarded(self, work: Awaitable[None]) -> None:
        """Do `work`; a fault of ours in it is a cause to stop, and costs the job nothing."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the border of an attempt: nothing of ours may pass it
            _log.exception("worker_fault")
            self.ask(Why.WORKER_FAULT, repr(error))
