"""Canceling and retrying by filter: found by index, done a few at a time."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from kelpie.contract import MAX_BULK, BulkAnswer
from kelpie.errors import Conflict
from kelpie.lifecycle import JobStatus
from kelpie.store.access import Caller
from kelpie.store.database import Database
from kelpie.store.endings import cancel_found
from kelpie.store.reports import Found, find
from kelpie.store.retries import RETRYABLE, retry_found
from kelpie.store.selection import Selection, selected
from kelpie.store.transaction import Transaction
from kelpie.store.writer import Order

_FEW = 100
"""Jobs in one step, so that heartbeats go on in between."""
_CANCELABLE = (JobStatus.PENDING, JobStatus.RUNNING)


async def cancel_selected(
    database: Database, caller: Caller, wanted: Selection, *, dry_run: bool
) -> BulkAnswer:
    """Cancel what is asked for and has not ended, oldest first, or only say what that would be."""

    def act(transaction: Transaction, found: Found) -> None:
        cancel_found(transaction, found, actor=f"user:{caller.username}")

    return await _each(database, caller, _limited(wanted, _CANCELABLE), None if dry_run else act)


async def retry_selected(
    database: Database, caller: Caller, wanted: Selection, *, dry_run: bool
) -> BulkAnswer:
    """Retry what is asked for and failed or was canceled, oldest first, or only say what that would be."""

    def act(transaction: Transaction, found: Found) -> None:
        retry_found(transaction, found, actor=f"user:{caller.username}")

    return await _each(database, caller, _limited(wanted, RETRYABLE), None if dry_run else act)


def _limited(wanted: Selection, allowed: tuple[JobStatus, ...]) -> Selection | None:
    statuses = tuple(status for status in allowed if not wanted.statuses or status in wanted.statuses)
    if not statuses:
        return None
    return structs.replace(wanted, statuses=statuses, limit=MAX_BULK + 1, is_ascending=True)


async def _each(
    database: Database,
    caller: Caller,
    wanted: Selection | None,
    act: Callable[[Transaction, Found], None] | None,
) -> BulkAnswer:
    if wanted is None:
        return BulkAnswer(count=0, ids=[])
    sql, values = selected(caller, wanted)
    rows = await database.all(
        f"SELECT job_id FROM jobs WHERE job_seq IN ({sql}) ORDER BY created, job_seq", values
    )
    ids = [row[0] for row in rows]
    more, ids = len(ids) > MAX_BULK, ids[:MAX_BULK]
    if act is not None:
        done: list[str] = []
        for first in range(0, len(ids), _FEW):
            done += await _step(database, caller, wanted.statuses, ids[first : first + _FEW], act)
        ids = done
    return BulkAnswer(count=len(ids), ids=ids, more=more)


async def _step(
    database: Database,
    caller: Caller,
    statuses: tuple[JobStatus, ...],
    ids: list[str],
    act: Callable[[Transaction, Found], None],
) -> list[str]:
    def operation(transaction: Transaction) -> list[str]:
        done = []
        for job_id in ids:
            found = find(transaction, job_id, caller)
            # Whatever moved on since it was found is left alone.
            if found is None or found.status not in statuses:
                continue
            try:
                act(transaction, found)
            except Conflict:
                continue
            done.append(job_id)
        return done

    return await database.write(Order.SUBMIT, operation)
