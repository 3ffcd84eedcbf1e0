"""What happened to a job, by whom: one row per fact, in the transaction that made it one."""

from __future__ import annotations

from typing import Any

from kelpie.contract import Event, Events
from kelpie.store.clock import iso
from kelpie.store.database import Database
from kelpie.store.transaction import Transaction

SERVER = "server"
MACHINE = "machine:"


def record(
    transaction: Transaction,
    job_seq: int,
    kind: str,
    *,
    actor: str,
    attempt: int,
    machine_id: str | None = None,
    source: str | None = None,
    target: str | None = None,
    reason: str | None = None,
) -> None:
    """Write one event."""
    transaction.run(
        """
        INSERT INTO events (job_seq, at, kind, actor, attempt, machine_id, source, target, reason)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (job_seq, transaction.wall, kind, actor, attempt, machine_id, source, target, reason),
    )


def machine_of(actor: str) -> str | None:
    """Name the machine that acted; None when it was somebody else."""
    return actor.removeprefix(MACHINE) if actor.startswith(MACHINE) else None


def record_once(transaction: Transaction, job_seq: int, kind: str, **facts: Any) -> None:
    """Write an event unless the job's newest one says the same: a confused worker may say it for ever."""
    newest = transaction.one(
        """
        SELECT kind, machine_id, attempt, reason FROM events
        WHERE job_seq = ? ORDER BY event_id DESC LIMIT 1
        """,
        (job_seq,),
    )
    if newest != (kind, facts["machine_id"], facts["attempt"], facts["reason"]):
        record(transaction, job_seq, kind, **facts)


async def events_of(database: Database, job_seq: int, *, created: int, submitted_by: str) -> Events:
    """Read a job's history, oldest first; that it was submitted is known from the job itself."""
    rows = await database.all(
        """
        SELECT event_id, at, kind, actor, attempt, machine_id, source, target, reason
        FROM events WHERE job_seq = ? ORDER BY event_id
        """,
        (job_seq,),
    )
    first = Event(
        id=0, at=iso(created), kind="submitted", actor=submitted_by, attempt=0,
        machine_id=None, source=None, target="pending", reason=None,
    )  # fmt: skip
    return Events(
        events=[
            first,
            *(
                Event(
                    id=row[0], at=iso(row[1]), kind=row[2], actor=row[3], attempt=row[4],
                    machine_id=row[5], source=row[6], target=row[7], reason=row[8],
                )
                for row in rows
            ),
        ]
    )  # fmt: skip
