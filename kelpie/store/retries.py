"""Retrying: the one way out of `failed` and `canceled`, on the word of the user."""

from __future__ import annotations

from kelpie.contract import Job
from kelpie.errors import Conflict, NotFound
from kelpie.lifecycle import JobStatus
from kelpie.store import dependencies, events
from kelpie.store.access import Caller
from kelpie.store.database import Database
from kelpie.store.jobs import job
from kelpie.store.reports import Found, find
from kelpie.store.transaction import Transaction, job_key
from kelpie.store.writer import Order

RETRYABLE = (JobStatus.FAILED, JobStatus.CANCELED)


async def retry(database: Database, caller: Caller, job_id: str) -> Job:
    """Make a failed or canceled job pending again; raises NotFound, or Conflict in any other state."""

    def operation(transaction: Transaction) -> None:
        found = find(transaction, job_id, caller)
        if found is None:
            raise NotFound("Job not found")
        if found.status not in RETRYABLE:
            raise Conflict(f"The job is {found.status}; only a failed or canceled one can be retried")
        retry_found(transaction, found, actor=f"user:{caller.username}")

    await database.write(Order.SUBMIT, operation)
    return job(database, caller, job_id)


def retry_found(transaction: Transaction, found: Found, *, actor: str) -> None:
    """Begin a job anew: counters at zero, nobody banned, its history and attempt number kept."""
    dependencies.await_again(transaction, found.job_seq)
    row = transaction.one(
        """
        UPDATE jobs SET status = 'pending', retries = retries + 1, num_failures = 0, num_interruptions = 0,
            unproductive = 0, not_before = 0, deadline = NULL, canceled = NULL, failed = NULL, reason = NULL,
            waits_for = (SELECT count(*) FROM dependencies WHERE job_seq = :job_seq)
        WHERE job_seq = :job_seq AND attempt = :attempt AND status = :expected
        RETURNING waits_for
        """,
        {"job_seq": found.job_seq, "attempt": found.attempt, "expected": found.status},
    )
    if row is None:
        raise RuntimeError("A job changed under its own transaction.")
    transaction.run("DELETE FROM bans WHERE job_seq = ?", (found.job_seq,))
    events.record(
        transaction, found.job_seq, "retried", actor=actor, attempt=found.attempt,
        machine_id=found.machine_id, source=found.status, target=JobStatus.PENDING,
    )  # fmt: skip
    transaction.wake(job_key(found.job_id))
    if row[0] == 0:
        dependencies.wake_group(transaction, found.user_seq, found.group_seq)
