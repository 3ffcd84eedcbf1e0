"""Claiming: one atomic statement hands the next job of a group to one machine (rules 1, 5 and 7)."""

from __future__ import annotations

from msgspec import Struct

from kelpie.contract import Job
from kelpie.errors import NotFound
from kelpie.lifecycle import LEASE_INTERVALS, JobStatus
from kelpie.store import events, machines, outbox
from kelpie.store.access import Caller
from kelpie.store.database import Database
from kelpie.store.rows import JOB_COLUMNS, JOB_TABLES, STATE_COLUMNS, JobRow, decode_spec, job_from, job_of
from kelpie.store.sweep import sweep
from kelpie.store.transaction import Transaction
from kelpie.store.writer import Order

_MS = 1000


class Claim(Struct, frozen=True, kw_only=True):
    """Who asks for work; without `version` it is a legacy worker, which watches no time limit."""

    machine_id: str
    container_group_id: str
    claim_id: str | None = None
    version: str | None = None


class Policy(Struct, frozen=True, kw_only=True):
    """Settings that decide about claims, in milliseconds."""

    ban_window_ms: int = 600_000
    timeout_margin_ms: int = 60_000


async def claim(
    database: Database, caller: Caller, policy: Policy, polls: machines.Polls, request: Claim
) -> Job | None:
    """Hand the next job of a group to a machine, or None when there is none for it."""

    def operation(transaction: Transaction) -> Job | None:
        sweep(transaction)
        again = _claimed_before(transaction, caller, request)
        if again is not None:
            return _read(transaction, again)
        group_seq = machines.group_seq_of(transaction, caller.user_seq, request.container_group_id)
        polls.record(transaction, group_seq, request.machine_id, request.version)
        taken = _take(transaction, caller, policy, request, (_UNBANNED, group_seq))
        if taken is None:
            taken = _take(transaction, caller, policy, request, (_BANNED_ALONE, group_seq))
        if taken is None:
            return None
        _open(transaction, caller, request, taken)
        return job_from(taken, decode_spec(taken.definition))

    return await database.write(Order.CLAIM, operation)


_UNBANNED = """
    SELECT job_seq FROM jobs AS candidate
    WHERE group_seq = :group_seq AND status = 'pending' AND not_before = 0 AND run_at = 0
        AND waits_for = 0
        AND NOT EXISTS (
            SELECT 1 FROM bans WHERE bans.job_seq = candidate.job_seq AND bans.machine_id = :machine_id
                AND (bans.until IS NULL OR bans.until > :now)
        )
    ORDER BY priority DESC, job_seq LIMIT 1
"""

# Rule 7: nobody without the ban has polled the group since the window began, this machine itself
# before its ban included, so the job would be stranded.
_BANNED_ALONE = """
    SELECT job_seq FROM jobs AS candidate
    WHERE group_seq = :group_seq AND status = 'pending' AND not_before = 0 AND run_at = 0
        AND waits_for = 0
        AND EXISTS (
            SELECT 1 FROM bans WHERE bans.job_seq = candidate.job_seq AND bans.machine_id = :machine_id
                AND bans.until IS NULL AND bans.since <= :now - :ban_window_ms
        )
        AND NOT EXISTS (
            SELECT 1 FROM polls WHERE polls.group_seq = :group_seq AND polls.polled > :now - :ban_window_ms
                AND NOT EXISTS (
                    SELECT 1 FROM bans
                    WHERE bans.job_seq = candidate.job_seq AND bans.machine_id = polls.machine_id
                        AND bans.until IS NULL
                )
        )
    ORDER BY priority DESC, job_seq LIMIT 1
"""


def _take(
    transaction: Transaction, caller: Caller, policy: Policy, request: Claim, candidate: tuple[str, int]
) -> JobRow | None:
    query, group_seq = candidate
    row = transaction.one(
        f"""
        UPDATE jobs SET status = 'running', attempt = attempt + 1, machine_id = :machine_id,
            started = :wall, heartbeat = :wall, productive = 0, reason = NULL,
            lease_expires = :now + heartbeat_interval * {LEASE_INTERVALS * _MS},
            deadline = CASE WHEN :is_legacy THEN :now + CAST(timeout_s * {_MS} AS INTEGER) + :margin_ms END
        WHERE job_seq = ({query}) AND status = 'pending'
        RETURNING {STATE_COLUMNS}
        """,
        {
            "machine_id": request.machine_id,
            "group_seq": group_seq,
            "now": transaction.now,
            "wall": transaction.wall,
            "is_legacy": request.version is None,
            "margin_ms": policy.timeout_margin_ms,
            "ban_window_ms": policy.ban_window_ms,
        },
    )
    if row is None:
        return None
    # Everything else a job shows is known here: a join would cost as much as the claim.
    (definition,) = transaction.one("SELECT definition FROM job_specs WHERE job_seq = ?", row[:1]) or ("",)
    return JobRow(*(*row[:3], caller.user_id, request.container_group_id, *row[3:], definition))


def _open(transaction: Transaction, caller: Caller, request: Claim, taken: JobRow) -> None:
    transaction.run(
        """
        INSERT INTO attempts
            (job_seq, attempt, machine_id, key_seq, claim_id, version, started, heartbeats_before)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            taken.job_seq,
            taken.attempt,
            request.machine_id,
            caller.key_seq,
            request.claim_id,
            request.version,
            transaction.wall,
            taken.num_heartbeats,
        ),
    )
    events.record(
        transaction, taken.job_seq, "claimed", actor=f"machine:{request.machine_id}", attempt=taken.attempt,
        machine_id=request.machine_id, source=JobStatus.PENDING, target=JobStatus.RUNNING,
    )  # fmt: skip
    outbox.record(
        transaction, taken.job_seq, taken.webhook_events, "running",
        machine_id=request.machine_id, attempt=taken.attempt,
    )  # fmt: skip


def _claimed_before(transaction: Transaction, caller: Caller, request: Claim) -> int | None:
    if request.claim_id is None:
        return None
    row = transaction.one(
        """
        SELECT job_seq FROM attempts
        WHERE claim_id = ? AND outcome IS NULL AND machine_id = ? AND key_seq = ?
        """,
        (request.claim_id, request.machine_id, caller.key_seq),
    )
    return None if row is None else int(row[0])


def _read(transaction: Transaction, job_seq: int) -> Job:
    row = transaction.one(f"SELECT {JOB_COLUMNS} FROM {JOB_TABLES} WHERE jobs.job_seq = ?", (job_seq,))
    if row is None:
        raise NotFound("Job not found")
    return job_of(row)
