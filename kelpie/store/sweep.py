"""What time does to jobs: leases run out, delays pass, and a server that was away makes amends.

Rules 4, 9, 10 and 11 of the life of a job. Upkeep sweeps several times a
second, every claim once more before it looks for a job.
"""

from __future__ import annotations

from kelpie.lifecycle import LEASE_INTERVALS, JobStatus, Outcome, Reason
from kelpie.store import attempts, dependencies, events, outbox
from kelpie.store.database import Database
from kelpie.store.endings import INTERRUPTED, fail_overdue
from kelpie.store.reports import find_by_seq
from kelpie.store.submissions import DAY_MS
from kelpie.store.transaction import LOST_KEY, Row, Transaction, group_key, job_key
from kelpie.store.writer import Order

_MS = 1000
_FEW = 200
"""Rows handled in one step, so that no batch takes long; the next step takes the rest."""


async def sweep_once(database: Database) -> None:
    """Run one step of upkeep."""
    await database.write(Order.UPKEEP, sweep)


async def forget_idempotency_keys(database: Database) -> None:
    """Drop keys older than a day, a few at a time."""

    def operation(transaction: Transaction) -> None:
        transaction.run(
            """
            DELETE FROM idempotency_keys WHERE (user_seq, route, idempotency_key) IN (
                SELECT user_seq, route, idempotency_key FROM idempotency_keys WHERE created <= ? LIMIT ?
            )
            """,
            (transaction.wall - DAY_MS, _FEW),
        )

    await database.write(Order.UPKEEP, operation)


def sweep(transaction: Transaction) -> None:
    """End every lease that ran out and free every job that is due; once per transaction."""
    if transaction.swept:
        return
    transaction.swept = True
    _expire(transaction)
    _end_overdue(transaction)
    _free_delayed(transaction)
    _free_scheduled(transaction)
    _free_held_off(transaction)
    dependencies.tell_dependents(transaction)


async def greet(database: Database) -> None:
    """Give every running attempt one fresh lease before anything is declared lost (rule 10)."""

    def operation(transaction: Transaction) -> None:
        transaction.run(
            f"""
            UPDATE jobs SET lease_expires = :now + heartbeat_interval * {LEASE_INTERVALS * _MS}
            WHERE status = 'running'
            """,
            {"now": transaction.now},
        )

    # First of all: not even a report may come before it in the first batch.
    await database.write(Order.REPORT, operation)


def extend_leases(transaction: Transaction, by_ms: int) -> None:
    """Extend every live lease because the server, not the worker, was away (rule 10)."""
    transaction.run(
        "UPDATE jobs SET lease_expires = lease_expires + ?, deadline = deadline + ? WHERE status = 'running'",
        (by_ms, by_ms),
    )


def move_lease_times(transaction: Transaction, by_ms: int) -> None:
    """Move every time on the lease clock because the clock was anchored anew (rule 11)."""
    transaction.run(
        "UPDATE jobs SET lease_expires = lease_expires + ?, deadline = deadline + ? WHERE status = 'running'",
        (by_ms, by_ms),
    )
    transaction.run(
        "UPDATE jobs SET not_before = not_before + ? WHERE status = 'pending' AND not_before > 0", (by_ms,)
    )
    transaction.run(
        "UPDATE bans SET since = since + ?, until = CASE WHEN until > 0 THEN until + ? ELSE until END",
        (by_ms, by_ms),
    )
    transaction.run("UPDATE polls SET polled = polled + ?", (by_ms,))
    transaction.run(
        "UPDATE webhook_deliveries SET next_try = next_try + ? WHERE next_try IS NOT NULL", (by_ms,)
    )


def _expire(transaction: Transaction) -> None:
    lost = transaction.all(
        f"""
        UPDATE jobs SET {INTERRUPTED}
        WHERE job_seq IN (
            SELECT job_seq FROM jobs WHERE status = 'running' AND lease_expires <= :now LIMIT :few
        )
        RETURNING job_seq, job_id, user_seq, group_seq, attempt, machine_id, webhook_events, status
        """,
        {"now": transaction.now, "wall": transaction.wall, "few": _FEW},
    )
    if lost:
        transaction.wake(LOST_KEY, len(lost))
    for job_seq, job_id, user_seq, group_seq, attempt, machine_id, wanted, status in lost:
        reason = Reason.NO_PROGRESS if status == JobStatus.FAILED else None
        ending = attempts.Ending(outcome=Outcome.LOST, reason=reason)
        attempts.close(transaction, job_seq, attempt, ending)
        events.record(
            transaction, job_seq, Outcome.LOST, actor=events.SERVER, attempt=attempt, machine_id=machine_id,
            source=JobStatus.RUNNING, target=status, reason=reason,
        )  # fmt: skip
        outbox.record_end(
            transaction, job_seq, wanted, ending, source=JobStatus.RUNNING, target=JobStatus(status),
            machine_id=machine_id, attempt=attempt,
        )  # fmt: skip
        transaction.wake(job_key(job_id))
        dependencies.settle(transaction, job_seq, JobStatus(status))
        _wake_group(transaction, user_seq, group_seq)


def _end_overdue(transaction: Transaction) -> None:
    overdue = transaction.all(
        """
        SELECT job_seq FROM jobs
        WHERE status = 'running' AND deadline IS NOT NULL AND deadline <= ? LIMIT ?
        """,
        (transaction.now, _FEW),
    )
    for (job_seq,) in overdue:
        found = find_by_seq(transaction, job_seq)
        if found is not None:
            fail_overdue(transaction, found)


def _free_delayed(transaction: Transaction) -> None:
    _wake_freed(
        transaction,
        transaction.all(
            """
            UPDATE jobs SET not_before = 0 WHERE job_seq IN (
                SELECT job_seq FROM jobs
                WHERE status = 'pending' AND not_before > 0 AND not_before <= ? LIMIT ?
            ) RETURNING user_seq, group_seq
            """,
            (transaction.now, _FEW),
        ),
    )


def _free_scheduled(transaction: Transaction) -> None:
    # The hour a user names is wall time, not lease time.
    _wake_freed(
        transaction,
        transaction.all(
            """
            UPDATE jobs SET run_at = 0 WHERE job_seq IN (
                SELECT job_seq FROM jobs
                WHERE status = 'pending' AND run_at > 0 AND run_at <= ? LIMIT ?
            ) RETURNING user_seq, group_seq
            """,
            (transaction.wall, _FEW),
        ),
    )


def _free_held_off(transaction: Transaction) -> None:
    # The row stays, so that `times` goes on growing; 0 says that the time has passed.
    ended = transaction.all(
        "UPDATE bans SET until = 0 WHERE until > 0 AND until <= ? RETURNING job_seq", (transaction.now,)
    )
    for (job_seq,) in ended:
        _wake_freed(
            transaction,
            transaction.all("SELECT user_seq, group_seq FROM jobs WHERE job_seq = ?", (job_seq,)),
        )


def _wake_freed(transaction: Transaction, rows: list[Row]) -> None:
    for user_seq, group_seq in rows:
        _wake_group(transaction, user_seq, group_seq)


def _wake_group(transaction: Transaction, user_seq: int, group_seq: int) -> None:
    row = transaction.one("SELECT container_group_id FROM container_groups WHERE group_seq = ?", (group_seq,))
    if row is not None:
        transaction.wake(group_key(user_seq, row[0]))
