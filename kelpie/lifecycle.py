"""The states of a job, the outcomes of an attempt, and the moves between them. Pure."""

from __future__ import annotations

from enum import StrEnum

PICTURE = """
             claim                     exit 0 + all data stored
 pending ──────────────► running ────────────────────────────────► completed
    ▲  ▲                    │
    │  └── interrupted, ────┤
    │      lost, failed     ├── failed for the max_failures-th time ──► failed ◄── (pending: dependency failed)
    │      with tries left  │                                             │
    │                       └── DELETE /jobs/{id} ─► canceled ◄─ (pending)│
    └──────────────────────────── POST /jobs/{id}/retry ──────────────────┴─ (failed, canceled)
"""  # noqa: E501 - one picture with the README's


class JobStatus(StrEnum):
    """Where a job is in its life; the wire's spelling."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELED = "canceled"
    FAILED = "failed"


FINAL = frozenset({JobStatus.COMPLETED, JobStatus.CANCELED, JobStatus.FAILED})
"""Nothing a late or confused worker says moves a job out of these."""


class Outcome(StrEnum):
    """How an attempt ended. `lost` alone can be taken back."""

    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    CANCELED = "canceled"


class Reason(StrEnum):
    """Why an attempt, or a job, ended otherwise than by completing."""

    EXIT = "exit"
    SIGNAL = "signal"
    SPAWN = "spawn"
    TIMEOUT = "timeout"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    RESTORE = "restore"
    DEPENDENCY = "dependency"
    NO_PROGRESS = "no-progress"
    NOTICE = "notice"
    DRAIN = "drain"
    WORKER_FAULT = "worker-fault"
    DIRECTORY_BUSY = "directory-busy"


NO_BAN = frozenset({Reason.DOWNLOAD, Reason.UPLOAD, Reason.RESTORE, Reason.TIMEOUT})
"""Failures that say nothing about the machine: they count but do not ban (rule 6)."""

LEASE_INTERVALS = 2
"""A lease lasts this many heartbeat intervals, inclusive."""

SHORT_ATTEMPT_S = 30.0
"""An attempt given back sooner than this is held off its machine for a while (rule 5)."""


def lease_s(heartbeat_interval_s: float) -> float:
    """How long an attempt may act without an accepted heartbeat, in seconds."""
    return LEASE_INTERVALS * heartbeat_interval_s


def retry_delay_s(num_failures: int, base_s: float, ceiling_s: float) -> float:
    """Seconds a job waits after its `num_failures`-th failure, before jitter (rule 6)."""
    # The exponent is capped where any base has long passed any ceiling; 2**10000 would overflow.
    exponent = min(max(num_failures - 1, 0), 64)
    return min(base_s * float(2**exponent), ceiling_s)


class Standing(StrEnum):
    """What a machine that reports is to the job it reports on."""

    HOLDER = "holder"
    LOST = "lost"
    """Its lease ran out and nobody claimed since: late but right (rule 3)."""
    REPEAT = "repeat"
    """It already said this, and it was applied."""
    OUTSIDE = "outside"
    """The job was never claimed; somebody reports on it all the same."""
    STRANGER = "stranger"


def standing(
    status: JobStatus, newest: int, newest_outcome: Outcome | None, *, is_newest: bool, is_machine: bool
) -> Standing:
    """Decide what a reporter is: does it mean the newest attempt, and did it run that one."""
    if newest == 0:
        return Standing.OUTSIDE if status is JobStatus.PENDING else Standing.STRANGER
    if not (is_newest and is_machine):
        return Standing.STRANGER
    if status is JobStatus.RUNNING:
        return Standing.HOLDER
    if status is JobStatus.PENDING and newest_outcome is Outcome.LOST:
        return Standing.LOST
    return Standing.STRANGER
