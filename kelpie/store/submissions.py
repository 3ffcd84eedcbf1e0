"""Submitting: one transaction for a whole batch, safe to repeat with an idempotency key."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from kelpie.contract import Job
from kelpie.errors import Conflict, IdempotencyMismatch
from kelpie.store import outbox, webhooks
from kelpie.store.access import Caller
from kelpie.store.database import Database
from kelpie.store.machines import group_seq_of
from kelpie.store.relations import NewJob, depend, mark, prepare
from kelpie.store.rows import JOB_COLUMNS, JOB_TABLES, JobRow, job_from, job_of
from kelpie.store.transaction import Transaction, group_key
from kelpie.store.writer import Order

DAY_MS = 24 * 3600 * 1000


class Idempotency(Struct, frozen=True, kw_only=True):
    """The key of a submission that may come again, and the hash of its body."""

    route: str
    key: str
    body_hash: bytes


class Submitted(Struct, frozen=True):
    """The jobs, in the order of the request, and whether they were there already."""

    jobs: list[Job]
    is_replay: bool


async def submit(
    database: Database, caller: Caller, jobs: Sequence[NewJob], idempotency: Idempotency | None
) -> Submitted:
    """Make all jobs or none; raises IdempotencyMismatch when the key came with another body."""

    def operation(transaction: Transaction) -> Submitted:
        earlier = _earlier(transaction, caller, idempotency) if idempotency else None
        if earlier is not None:
            return Submitted(earlier, is_replay=True)
        made = _insert(transaction, caller, jobs)
        if idempotency:
            _remember(transaction, caller, idempotency, made)
        return Submitted(_shown(transaction, made, jobs), is_replay=False)

    return await database.write(Order.SUBMIT, operation)


def _insert(transaction: Transaction, caller: Caller, jobs: Sequence[NewJob]) -> list[JobRow]:
    groups = {
        group: group_seq_of(transaction, caller.user_seq, group)
        for group in {job.spec.container_group_id for job in jobs}
    }
    rows = prepare(jobs)
    has_default = webhooks.has_default(transaction, caller.user_seq)
    first = _next_seq(transaction)
    transaction.many(
        """
        INSERT INTO jobs (job_seq, job_id, user_seq, group_seq, priority, run_at, heartbeat_interval,
            timeout_s, max_failures, max_interruptions, webhook_events, created)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        [
            (first + index, job_id, caller.user_seq, groups[job.spec.container_group_id], job.priority,
             job.run_at if job.run_at > transaction.wall else 0, job.heartbeat_interval, job.timeout_s,
             job.max_failures, job.max_interruptions, outbox.wanted(job.spec, has_default=has_default),
             transaction.wall)
            for index, (job_id, job) in enumerate(rows)
        ],
    )  # fmt: skip
    transaction.many(
        "INSERT INTO job_specs (job_seq, definition) VALUES (?, ?)",
        [(first + index, job.definition) for index, (_, job) in enumerate(rows)],
    )
    mark(transaction, caller, [(first + index, job.spec) for index, (_, job) in enumerate(rows)])
    depend(transaction, caller, [(first + index, job_id, job) for index, (job_id, job) in enumerate(rows)])
    for group in groups:
        count = sum(job.spec.container_group_id == group for job in jobs)
        transaction.wake(group_key(caller.user_seq, group), count)
    return [
        _fresh(first + index, job_id, caller, job, transaction.wall)
        for index, (job_id, job) in enumerate(rows)
    ]


def _shown(transaction: Transaction, made: list[JobRow], jobs: Sequence[NewJob]) -> list[Job]:
    if any(job.spec.after for job in jobs):
        # What they wait for may have ended already, and names within the batch are ids by now.
        return _read(transaction, made[0].job_seq, len(made))
    return [job_from(row, job.spec) for row, job in zip(made, jobs, strict=True)]


def _read(transaction: Transaction, first: int, count: int) -> list[Job]:
    rows = transaction.all(
        f"SELECT {JOB_COLUMNS} FROM {JOB_TABLES} WHERE jobs.job_seq BETWEEN ? AND ? ORDER BY jobs.job_seq",
        (first, first + count - 1),
    )
    return [job_of(found) for found in rows]


def _fresh(job_seq: int, job_id: str, caller: Caller, job: NewJob, now: int) -> JobRow:
    return JobRow(
        job_seq=job_seq, job_id=job_id, user_seq=caller.user_seq, user_id=caller.user_id,
        container_group_id=job.spec.container_group_id, status="pending", priority=job.priority,
        attempt=0, machine_id=None, timeout_s=job.timeout_s, max_failures=job.max_failures,
        num_failures=0, num_interruptions=0, num_heartbeats=0, retries=0, created=now, started=None,
        completed=None, canceled=None, failed=None, heartbeat=None, progress=None,
        last_checkpoint=None, reason=None, webhook_events=0, definition="",
    )  # fmt: skip


def _next_seq(transaction: Transaction) -> int:
    # AUTOINCREMENT's own table: a pruned job's number must not come back to a worker that remembers it.
    row = transaction.one("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
    return 1 if row is None else int(row[0]) + 1


def _earlier(transaction: Transaction, caller: Caller, idempotency: Idempotency) -> list[Job] | None:
    row = transaction.one(
        """
        SELECT body_hash, first_job_seq, job_count FROM idempotency_keys
        WHERE user_seq = ? AND route = ? AND idempotency_key = ? AND created > ?
        """,
        (caller.user_seq, idempotency.route, idempotency.key, transaction.wall - DAY_MS),
    )
    if row is None:
        return None
    body_hash, first, count = row
    if body_hash != idempotency.body_hash:
        raise IdempotencyMismatch(
            "This Idempotency-Key came before with another body. Use a new key for a new submission."
        )
    jobs = _read(transaction, first, count)
    if len(jobs) < count:
        raise Conflict("Jobs of this Idempotency-Key were removed since. Use a new key to submit them again.")
    return jobs


def _remember(transaction: Transaction, caller: Caller, idempotency: Idempotency, made: list[JobRow]) -> None:
    transaction.run(
        """
        INSERT OR REPLACE INTO idempotency_keys
            (user_seq, route, idempotency_key, body_hash, first_job_seq, job_count, created)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        """,
        (
            caller.user_seq,
            idempotency.route,
            idempotency.key,
            idempotency.body_hash,
            made[0].job_seq,
            len(made),
            transaction.wall,
        ),
    )
