"""Removing: the jobs of a container group, all jobs, all users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kelpie.store import dependencies
from kelpie.store.access import ADMIN, Caller
from kelpie.store.database import Database
from kelpie.store.endings import cancel_found
from kelpie.store.reports import find_by_seq
from kelpie.store.transaction import Transaction, job_key
from kelpie.store.writer import Order

_FEW = 500
"""Jobs removed in one step, so that heartbeats go on in between."""

_NOT_ADMIN = "NOT (source = 'local' AND username = :admin) AND user_seq <> :user_seq"


async def purge_group(database: Database, caller: Caller, container_group_id: str) -> int:
    """Remove the caller's pending jobs of a group and cancel its running ones; how many both were."""

    def operation(transaction: Transaction) -> int:
        row = transaction.one(
            "SELECT group_seq FROM container_groups WHERE user_seq = ? AND container_group_id = ?",
            (caller.user_seq, container_group_id),
        )
        if row is None:
            return 0
        removed = transaction.all(
            "DELETE FROM jobs WHERE group_seq = ? AND status = 'pending' RETURNING job_seq, job_id", row
        )
        canceled = _cancel_running(transaction, row[0], actor=f"user:{caller.username}")
        _tell(transaction, removed)
        return len(removed) + canceled

    return await database.write(Order.REPORT, operation)


async def delete_jobs(database: Database) -> None:
    """Remove every job of every user, a few at a time."""
    last = await database.write(Order.REPORT, _last_job)
    await _delete_in_steps(database, "job_seq <= :last", {"last": last})


async def delete_users(database: Database, caller: Caller, *, on_locked_out: Callable[[], None]) -> None:
    """Remove every user but the admin and the caller, with everything that is theirs."""
    values = {"admin": ADMIN, "user_seq": caller.user_seq}

    def lock_out(transaction: Transaction) -> list[tuple[int]]:
        # Keys go first, so that nothing new comes while the jobs are removed.
        doomed = transaction.all(f"SELECT user_seq FROM users WHERE {_NOT_ADMIN}", values)
        transaction.many("DELETE FROM keys WHERE user_seq = ?", doomed)
        return [(int(row[0]),) for row in doomed]

    def remove(transaction: Transaction) -> None:
        transaction.many("DELETE FROM users WHERE user_seq = ?", doomed)

    doomed = await database.write(Order.REPORT, lock_out)
    on_locked_out()
    for (user_seq,) in doomed:
        await _delete_in_steps(database, "user_seq = :user_seq", {"user_seq": user_seq})
    await database.write(Order.REPORT, remove)


async def _delete_in_steps(database: Database, condition: str, values: dict[str, Any]) -> None:
    def step(transaction: Transaction) -> int:
        removed = transaction.all(
            f"""
            DELETE FROM jobs WHERE job_seq IN (SELECT job_seq FROM jobs WHERE {condition} LIMIT :few)
            RETURNING job_seq, job_id
            """,
            {**values, "few": _FEW},
        )
        _tell(transaction, removed)
        return len(removed)

    while await database.write(Order.SUBMIT, step):
        pass


def _last_job(transaction: Transaction) -> int:
    row = transaction.one("SELECT max(job_seq) FROM jobs")
    return row[0] or 0 if row else 0


def _cancel_running(transaction: Transaction, group_seq: int, *, actor: str) -> int:
    running = transaction.all(
        "SELECT job_seq FROM jobs WHERE group_seq = ? AND status = 'running'", (group_seq,)
    )
    for (job_seq,) in running:
        found = find_by_seq(transaction, job_seq)
        if found is not None:
            cancel_found(transaction, found, actor=actor)
    return len(running)


def _tell(transaction: Transaction, removed: list[tuple[Any, ...]]) -> None:
    dependencies.settle_removed(transaction, [job_seq for job_seq, _ in removed])
    for _, job_id in removed:
        transaction.wake(job_key(job_id))
