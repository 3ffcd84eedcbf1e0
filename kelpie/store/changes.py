"""Changing a job that has not ended: priority, labels, tries, time limit."""

from __future__ import annotations

import msgspec

from kelpie.contract import Job, JobChange
from kelpie.errors import AlreadyFinal, NotFound
from kelpie.lifecycle import FINAL
from kelpie.store import events
from kelpie.store.access import Caller
from kelpie.store.claims import Policy
from kelpie.store.database import Database
from kelpie.store.jobs import job
from kelpie.store.reports import Found, find
from kelpie.store.selection import NAME_KEY
from kelpie.store.transaction import Transaction
from kelpie.store.writer import Order

_MS = 1000


async def change(database: Database, caller: Caller, policy: Policy, job_id: str, wanted: JobChange) -> Job:
    """Change what is given; raises NotFound, or AlreadyFinal for a job that has ended."""

    def operation(transaction: Transaction) -> None:
        found = find(transaction, job_id, caller)
        if found is None:
            raise NotFound("Job not found")
        if found.status in FINAL:
            raise AlreadyFinal(f"Job already {found.status}")
        _change_state(transaction, found, policy, wanted)
        if wanted.labels is not None:
            _change_labels(transaction, found, wanted.labels)
        given = [name for name in wanted.__struct_fields__ if getattr(wanted, name) is not None]
        events.record(
            transaction, found.job_seq, "changed", actor=f"user:{caller.username}", attempt=found.attempt,
            source=found.status, target=found.status, reason=", ".join(given),
        )  # fmt: skip

    await database.write(Order.REPORT, operation)
    return job(database, caller, job_id)


def _change_state(transaction: Transaction, found: Found, policy: Policy, wanted: JobChange) -> None:
    # A legacy holder watches no time limit; the server's own deadline for it moves with the limit,
    # or is counted from the attempt's start when there was none.
    changed = transaction.run(
        f"""
        UPDATE jobs SET priority = coalesce(:priority, priority),
            max_failures = coalesce(:max_failures, max_failures),
            timeout_s = coalesce(:timeout_s, timeout_s),
            deadline = CASE
                WHEN :timeout_s IS NULL OR status <> 'running' THEN deadline
                WHEN deadline IS NOT NULL THEN deadline + CAST((:timeout_s - timeout_s) * {_MS} AS INTEGER)
                WHEN EXISTS (
                    SELECT 1 FROM attempts WHERE attempts.job_seq = jobs.job_seq
                        AND attempts.attempt = jobs.attempt AND attempts.version IS NULL
                ) THEN :now - (:wall - started) + CAST(:timeout_s * {_MS} AS INTEGER) + :margin_ms
            END
        WHERE job_seq = :job_seq AND attempt = :attempt AND status = :expected
        """,
        {
            "priority": wanted.priority,
            "max_failures": wanted.max_failures,
            "timeout_s": wanted.timeout_s,
            "now": transaction.now,
            "wall": transaction.wall,
            "margin_ms": policy.timeout_margin_ms,
            "job_seq": found.job_seq,
            "attempt": found.attempt,
            "expected": found.status,
        },
    )
    if changed != 1:
        raise RuntimeError("A job changed under its own transaction.")


def _change_labels(transaction: Transaction, found: Found, labels: dict[str, str]) -> None:
    transaction.run(
        """
        UPDATE job_specs SET definition = json_set(definition, '$.labels', json(?)) WHERE job_seq = ?
        """,
        (msgspec.json.encode(labels).decode(), found.job_seq),
    )
    transaction.run("DELETE FROM job_labels WHERE job_seq = ? AND key <> ?", (found.job_seq, NAME_KEY))
    transaction.many(
        """
        INSERT INTO job_labels (user_seq, key, value, created, job_seq)
        SELECT user_seq, ?, ?, created, job_seq FROM jobs WHERE job_seq = ?
        """,
        [(key, value, found.job_seq) for key, value in labels.items()],
    )
