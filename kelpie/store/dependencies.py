"""Jobs that wait for other jobs: free once all are completed, failed when one of them ends otherwise.

A job that ends is put down as settled, and its dependents are told a few at a
time: at once for the first ones, by upkeep and claims for the rest, so that no
transaction is long however many depend on one job, or one on the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from kelpie.errors import Conflict
from kelpie.lifecycle import FINAL, JobStatus, Outcome, Reason
from kelpie.store import events, outbox
from kelpie.store.transaction import Transaction, group_key, job_key

_FEW = 200
"""Dependents told in one step."""


def await_jobs(transaction: Transaction, pairs: Sequence[tuple[int, int]]) -> None:
    """Let new jobs wait: (job_seq, needs_seq) for each that is not completed."""
    transaction.many("INSERT OR IGNORE INTO dependencies (job_seq, needs_seq) VALUES (?, ?)", pairs)
    transaction.many(
        """
        UPDATE jobs SET waits_for = (SELECT count(*) FROM dependencies WHERE job_seq = jobs.job_seq)
        WHERE job_seq = ? AND attempt = 0 AND status = 'pending'
        """,
        [(job_seq,) for job_seq in sorted({job_seq for job_seq, _ in pairs})],
    )
    transaction.many(
        """
        INSERT OR IGNORE INTO settled (job_seq)
        SELECT job_seq FROM jobs WHERE job_seq = ? AND status IN ('failed', 'canceled')
        """,
        [(needs_seq,) for needs_seq in sorted({needs_seq for _, needs_seq in pairs})],
    )
    tell_dependents(transaction)


def await_again(transaction: Transaction, job_seq: int) -> None:
    """Let a job that is retried wait for what is still not completed; raises Conflict if that is gone."""
    gone = transaction.one(
        """
        SELECT 1 FROM dependencies WHERE job_seq = ?
            AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.job_seq = dependencies.needs_seq)
        """,
        (job_seq,),
    )
    if gone is not None:
        raise Conflict("A job it depends on was removed, so it can never start. Submit both again.")
    # Whoever was not told yet that this job had ended goes on waiting for it.
    transaction.run("DELETE FROM settled WHERE job_seq = ?", (job_seq,))


def settle(transaction: Transaction, job_seq: int, status: JobStatus) -> None:
    """Tell those who wait for a job that it has ended."""
    if status in FINAL and _has_dependents(transaction, job_seq):
        transaction.run("INSERT OR IGNORE INTO settled (job_seq) VALUES (?)", (job_seq,))
        tell_dependents(transaction)


def settle_removed(transaction: Transaction, job_seqs: Sequence[int]) -> None:
    """Tell those who wait for jobs that were just removed: they will never be completed."""
    transaction.many(
        """
        INSERT OR IGNORE INTO settled (job_seq)
        SELECT needs_seq FROM dependencies WHERE needs_seq = ? LIMIT 1
        """,
        [(job_seq,) for job_seq in job_seqs],
    )
    tell_dependents(transaction)


def tell_dependents(transaction: Transaction) -> None:
    """Tell a few of those who wait for jobs that have ended; the next step tells the rest."""
    left = _FEW
    while left > 0:
        row = transaction.one(
            """
            SELECT settled.job_seq, jobs.status FROM settled
            LEFT JOIN jobs ON jobs.job_seq = settled.job_seq
            WHERE settled.job_seq > 0 LIMIT 1
            """
        )
        if row is None:
            return
        job_seq, status = row
        told = _free(transaction, job_seq, left) if status == JobStatus.COMPLETED else 0
        if status in {None, JobStatus.FAILED, JobStatus.CANCELED}:
            told = _fail(transaction, job_seq, left)
        if told < left:
            transaction.run("DELETE FROM settled WHERE job_seq = ?", (job_seq,))
        left -= max(told, 1)


def _has_dependents(transaction: Transaction, job_seq: int) -> bool:
    return transaction.one("SELECT 1 FROM dependencies WHERE needs_seq = ? LIMIT 1", (job_seq,)) is not None


def _free(transaction: Transaction, needs_seq: int, few: int) -> int:
    waiting = transaction.all(
        """
        DELETE FROM dependencies WHERE needs_seq = :needs_seq AND job_seq IN (
            SELECT job_seq FROM dependencies WHERE needs_seq = :needs_seq LIMIT :few
        ) RETURNING job_seq
        """,
        {"needs_seq": needs_seq, "few": few},
    )
    for (job_seq,) in waiting:
        freed = transaction.one(
            """
            UPDATE jobs SET waits_for = (SELECT count(*) FROM dependencies WHERE job_seq = jobs.job_seq)
            WHERE job_seq = ? AND status = 'pending' RETURNING waits_for, user_seq, group_seq
            """,
            (job_seq,),
        )
        if freed is not None and freed[0] == 0:
            wake_group(transaction, freed[1], freed[2])
    return len(waiting)


def _fail(transaction: Transaction, needs_seq: int, few: int) -> int:
    # The rows stay: a retry waits for the same jobs again.
    waiting = transaction.all(
        """
        SELECT jobs.job_seq, jobs.job_id, jobs.attempt, jobs.webhook_events FROM dependencies
        CROSS JOIN jobs ON jobs.job_seq = dependencies.job_seq
        WHERE dependencies.needs_seq = ? AND jobs.status = 'pending' LIMIT ?
        """,
        (needs_seq, few),
    )
    for job_seq, job_id, attempt, wanted in waiting:
        transaction.run(
            """
            UPDATE jobs SET status = 'failed', failed = :wall, reason = :reason
            WHERE job_seq = :job_seq AND attempt = :attempt AND status = 'pending'
            """,
            {
                "wall": transaction.wall,
                "reason": Reason.DEPENDENCY,
                "job_seq": job_seq,
                "attempt": attempt,
            },
        )
        outbox.record(
            transaction, job_seq, wanted, "failed", machine_id=None, attempt=attempt,
            reason=Reason.DEPENDENCY,
        )  # fmt: skip
        events.record(
            transaction, job_seq, Outcome.FAILED, actor=events.SERVER, attempt=attempt,
            source=JobStatus.PENDING, target=JobStatus.FAILED, reason=Reason.DEPENDENCY,
        )  # fmt: skip
        transaction.wake(job_key(job_id))
        if _has_dependents(transaction, job_seq):
            transaction.run("INSERT OR IGNORE INTO settled (job_seq) VALUES (?)", (job_seq,))
    return len(waiting)


def wake_group(transaction: Transaction, user_seq: int, group_seq: int) -> None:
    """Wake whoever waits for work of a group, known by its number."""
    row = transaction.one("SELECT container_group_id FROM container_groups WHERE group_seq = ?", (group_seq,))
    if row is not None:
        transaction.wake(group_key(user_seq, row[0]))
