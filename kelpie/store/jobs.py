"""Reading jobs: one by its id, pages by filter."""

from __future__ import annotations

from msgspec import structs

from kelpie.contract import Attempts, Events, Job, JobPage, Signal
from kelpie.errors import NotFound
from kelpie.lifecycle import JobStatus
from kelpie.store import attempts, events
from kelpie.store.access import Caller
from kelpie.store.database import Database
from kelpie.store.rows import JOB_COLUMNS, JOB_TABLES, JobRow, decode_spec, job_from, job_of
from kelpie.store.selection import Selection, order, selected
from kelpie.store.transaction import Row


def job(database: Database, caller: Caller, job_id: str) -> Job:
    """Read one job; raises NotFound, for other users' jobs too."""
    row = database.one(f"SELECT {JOB_COLUMNS} FROM {JOB_TABLES} WHERE jobs.job_id = ?", (job_id,))
    if row is None or not (caller.is_admin or row[2] == caller.user_seq):
        raise NotFound("Job not found")
    return job_of(row)


async def page(database: Database, caller: Caller, wanted: Selection) -> JobPage:
    """Read one page of jobs in order of submission; an admin's view is everybody's."""
    # One more than the page holds says whether there is another.
    sql, values = selected(caller, structs.replace(wanted, limit=wanted.limit + 1))
    rows = await database.all(
        f"""
        SELECT {JOB_COLUMNS} FROM {JOB_TABLES}
        WHERE jobs.job_seq IN ({sql}) ORDER BY {order("jobs", wanted)}
        """,
        values,
    )
    shown = [JobRow(*row) for row in rows[: wanted.limit]]
    last = shown[-1] if len(rows) > wanted.limit else None
    return JobPage(
        count=len(shown),
        jobs=[job_from(row, decode_spec(row.definition)) for row in shown],
        next_cursor=None if last is None else f"{last.created}-{last.job_seq}",
    )


async def attempts_of(database: Database, caller: Caller, job_id: str) -> Attempts:
    """Read every attempt of a job; raises NotFound."""
    return await attempts.attempts_of(database, int(_owned(database, caller, job_id)[0]))


async def events_of(database: Database, caller: Caller, job_id: str) -> Events:
    """Read a job's history; raises NotFound."""
    job_seq, created, username = _owned(database, caller, job_id)
    return await events.events_of(database, job_seq, created=created, submitted_by=f"user:{username}")


def signal(database: Database, caller: Caller, job_id: str, *, attempt: int, machine_id: str) -> Signal:
    """Say whether an attempt is the live one; raises NotFound."""
    row = database.one(
        """
        SELECT jobs.status, jobs.attempt, jobs.machine_id, container_groups.container_group_id
        FROM jobs JOIN container_groups ON container_groups.group_seq = jobs.group_seq
        WHERE jobs.job_id = ? AND jobs.user_seq = ?
        """,
        (job_id, caller.user_seq),
    )
    if row is None or not caller.may_touch_group(row[3]):
        raise NotFound("Job not found")
    status, newest, holder, _ = row
    live = status == JobStatus.RUNNING and newest == attempt and holder == machine_id
    return Signal(status=status, live=live)


def _owned(database: Database, caller: Caller, job_id: str) -> Row:
    row = database.one(
        """
        SELECT jobs.job_seq, jobs.created, users.username, jobs.user_seq
        FROM jobs JOIN users ON users.user_seq = jobs.user_seq WHERE jobs.job_id = ?
        """,
        (job_id,),
    )
    if row is None or not (caller.is_admin or row[3] == caller.user_seq):
        raise NotFound("Job not found")
    return row[:3]
