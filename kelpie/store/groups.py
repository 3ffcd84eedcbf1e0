"""Container groups as their owner sees them: queues with counts, and who works on them."""

from __future__ import annotations

from kelpie.lifecycle import JobStatus
from kelpie.overview import ContainerGroup, ContainerGroups, GroupWorker
from kelpie.store.access import Caller
from kelpie.store.clock import iso, iso_or_none
from kelpie.store.database import Database
from kelpie.store.tally import Counted, Tally
from kelpie.store.transaction import Row

_MS = 1000
_WORKERS = 20


async def page(
    database: Database, tally: Tally, caller: Caller, *, now: int, number: int, size: int
) -> ContainerGroups:
    """Read one page of the caller's groups by name; an admin's view is everybody's. Pages count from 1."""
    rows = await database.all(
        """
        SELECT group_seq, container_group_id, users.user_id
        FROM container_groups JOIN users ON users.user_seq = container_groups.user_seq
        WHERE :is_admin OR container_groups.user_seq = :user_seq
        ORDER BY container_group_id, group_seq LIMIT :size OFFSET :skipped
        """,
        {
            "is_admin": caller.is_admin,
            "user_seq": caller.user_seq,
            "size": size,
            "skipped": (number - 1) * size,
        },
    )
    counts: dict[int, list[Counted]] = {row[0]: [] for row in rows}
    for counted in await tally.rows():
        if counted.group_seq in counts:
            counts[counted.group_seq].append(counted)
    groups = [await _group(database, row, counts[row[0]], now) for row in rows]
    return ContainerGroups(counted=iso(tally.counted_ms), container_groups=groups)


async def names(database: Database, *, most: int) -> dict[int, tuple[str, str]]:
    """Name the user and the container group of the oldest `most` groups."""
    rows = await database.all(
        """
        SELECT group_seq, users.username, container_group_id
        FROM container_groups JOIN users ON users.user_seq = container_groups.user_seq
        ORDER BY group_seq LIMIT ?
        """,
        (most,),
    )
    return {row[0]: (row[1], row[2]) for row in rows}


async def _group(database: Database, row: Row, counts: list[Counted], now: int) -> ContainerGroup:
    group_seq, container_group_id, user_id = row
    jobs = {str(status): 0 for status in JobStatus} | {one.status: one.count for one in counts}
    oldest = next((one.oldest for one in counts if one.status == JobStatus.PENDING), None)
    workers = await database.all(
        """
        SELECT machine_id, polled, count(*) OVER () FROM polls
        WHERE group_seq = ? ORDER BY polled DESC LIMIT ?
        """,
        (group_seq, _WORKERS),
    )
    return ContainerGroup(
        container_group_id=container_group_id,
        user_id=user_id,
        jobs=jobs,
        oldest_pending=iso_or_none(oldest),
        oldest_pending_s=None if oldest is None else max(now - oldest, 0) / _MS,
        num_workers=workers[0][2] if workers else 0,
        workers=[GroupWorker(machine_id=one[0], last_polled=iso(one[1])) for one in workers],
    )
