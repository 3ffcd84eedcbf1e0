"""Who reports on a job, and what that machine is to it (rule 2)."""

from __future__ import annotations

from msgspec import Struct

from kelpie.errors import LeaseLost, NotFound
from kelpie.lifecycle import JobStatus, Outcome, Standing, standing
from kelpie.store import attempts
from kelpie.store.access import Caller
from kelpie.store.events import MACHINE
from kelpie.store.transaction import Row, Transaction


class Speaker(Struct, frozen=True, kw_only=True):
    """The machine that reports; a legacy worker names no attempt."""

    machine_id: str
    attempt: int | None = None

    @property
    def actor(self) -> str:
        """The name in events."""
        return f"{MACHINE}{self.machine_id}"


class Found(Struct, frozen=True, kw_only=True):
    """The job a report is about, and the reporter's standing."""

    job_seq: int
    job_id: str
    user_seq: int
    group_seq: int
    container_group_id: str
    status: JobStatus
    attempt: int
    machine_id: str | None
    started: int | None
    webhook_events: int
    standing: Standing


_COLUMNS = """
    SELECT jobs.job_seq, jobs.job_id, jobs.user_seq, jobs.group_seq, container_groups.container_group_id,
        jobs.status, jobs.attempt, jobs.machine_id, jobs.started, jobs.webhook_events,
        newest.outcome, newest.machine_id
    FROM jobs
    JOIN container_groups ON container_groups.group_seq = jobs.group_seq
    LEFT JOIN attempts AS newest ON newest.job_seq = jobs.job_seq AND newest.attempt = jobs.attempt
"""


def look_up(transaction: Transaction, caller: Caller, job_id: str, speaker: Speaker) -> Found | None:
    """Find the caller's job; None when it does not exist for this caller."""
    row = transaction.one(
        f"{_COLUMNS} WHERE jobs.job_id = ? AND jobs.user_seq = ?", (job_id, caller.user_seq)
    )
    if row is None or not caller.may_touch_group(row[4]):
        return None
    outcome = None if row[10] is None else Outcome(row[10])
    what = standing(
        JobStatus(row[5]),
        row[6],
        outcome,
        is_newest=speaker.attempt in {None, row[6]},
        is_machine=row[11] == speaker.machine_id,
    )
    return _found(row, what)


def find(transaction: Transaction, job_id: str, caller: Caller) -> Found | None:
    """Find a job for its owner, or anybody's for an admin, without a machine reporting on it."""
    row = transaction.one(f"{_COLUMNS} WHERE jobs.job_id = ?", (job_id,))
    if row is None or not (caller.is_admin or row[2] == caller.user_seq):
        return None
    return _found(row, Standing.STRANGER)


def find_by_seq(transaction: Transaction, job_seq: int) -> Found | None:
    """Find a job for the server itself, which acts as if it were the holder."""
    row = transaction.one(f"{_COLUMNS} WHERE jobs.job_seq = ?", (job_seq,))
    return None if row is None else _found(row, Standing.HOLDER)


def is_repeat(transaction: Transaction, found: Found, speaker: Speaker, outcome: Outcome) -> bool:
    """Whether this attempt has ended so already: a report whose answer was lost comes again."""
    if speaker.attempt is None:
        return False
    return attempts.outcome_of(transaction, found.job_seq, speaker.attempt, speaker.machine_id) is outcome


def refusal(found: Found | None, speaker: Speaker) -> NotFound | LeaseLost:
    """Make the error for a report that names an attempt and does not apply."""
    if found is None:
        return NotFound("Job not found")
    return LeaseLost(
        f"Attempt {speaker.attempt} by {speaker.machine_id} is not the live attempt of this job.",
        job_status=found.status,
    )


def _found(row: Row, what: Standing) -> Found:
    job_seq, job_id, user_seq, group_seq, group, status, attempt, machine_id, started, wanted = row[:10]
    return Found(
        job_seq=job_seq, job_id=job_id, user_seq=user_seq, group_seq=group_seq, container_group_id=group,
        status=JobStatus(status), attempt=attempt, machine_id=machine_id, started=started,
        webhook_events=wanted, standing=what,
    )  # fmt: skip
