"""What happens to a user's jobs, in order: pages of the events table for whoever follows it."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from kelpie.contract import Progress
from kelpie.overview import FeedEvent, FeedProgress
from kelpie.store.access import Caller
from kelpie.store.clock import iso
from kelpie.store.database import Database

PAGE = 200
_SCANNED = 5000
_decode_progress = msgspec.json.Decoder(Progress).decode


def newest(database: Database) -> int:
    """The id of the newest event of all; 0 when there is none."""
    row = database.one("SELECT coalesce(max(event_id), 0) FROM events")
    return 0 if row is None else int(row[0])


async def events_after(database: Database, caller: Caller, after: int) -> tuple[list[FeedEvent], int]:
    """Read the caller's events after an id, and the id to go on from.

    One page looks at a bounded stretch of the table, so it may be empty though more follow.
    """
    end = min(after + _SCANNED, newest(database))
    rows = await database.all(
        """
        SELECT events.event_id, events.at, events.kind, events.attempt, events.machine_id, events.source,
            events.target, events.reason, jobs.job_id, container_groups.container_group_id
        FROM events
        JOIN jobs ON jobs.job_seq = events.job_seq
        JOIN container_groups ON container_groups.group_seq = jobs.group_seq
        WHERE events.event_id > :after AND events.event_id <= :end AND jobs.user_seq = :user_seq
        ORDER BY events.event_id LIMIT :page
        """,
        {"after": after, "end": end, "user_seq": caller.user_seq, "page": PAGE},
    )
    found = [
        FeedEvent(
            id=row[0], at=iso(row[1]), kind=row[2], attempt=row[3], machine_id=row[4], source=row[5],
            target=row[6], reason=row[7], job_id=row[8], container_group_id=row[9],
        )
        for row in rows
    ]  # fmt: skip
    # Beyond a full page lies more of the same stretch.
    return found, found[-1].id if len(found) == PAGE else max(end, after)


def progress_of(database: Database, caller: Caller, job_ids: Collection[str]) -> list[FeedProgress]:
    """Read how far the caller's jobs are; those that have said nothing are left out."""
    found = []
    for job_id in job_ids:
        row = database.one(
            "SELECT attempt, progress FROM jobs WHERE job_id = ? AND user_seq = ?", (job_id, caller.user_seq)
        )
        if row is not None and row[1] is not None:
            found.append(FeedProgress(job_id=job_id, attempt=row[0], progress=_decode_progress(row[1])))
    return found
