"""The machines of a user: who polls, what they hold, and the bans that may be lifted."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from kelpie.overview import HeldJob, LiftedBans, Machine, Machines
from kelpie.store.access import Caller
from kelpie.store.clock import iso, iso_or_none
from kelpie.store.database import Database
from kelpie.store.machines import Polls
from kelpie.store.transaction import Row, Transaction, group_key
from kelpie.store.writer import Order

_MOST_JOBS = 1000
_Name = tuple[int, str]


async def page(database: Database, polls: Polls, caller: Caller, *, number: int, size: int) -> Machines:
    """Read one page of machines, last seen first; an admin's view is everybody's. Pages count from 1."""
    rows = await database.all(
        """
        SELECT users.user_seq, users.user_id, polls.machine_id, max(polls.polled),
            json_group_array(container_groups.container_group_id), json_group_array(polls.group_seq)
        FROM container_groups
        JOIN polls ON polls.group_seq = container_groups.group_seq
        JOIN users ON users.user_seq = container_groups.user_seq
        WHERE :is_admin OR container_groups.user_seq = :user_seq
        GROUP BY users.user_seq, polls.machine_id
        ORDER BY 4 DESC, 3 LIMIT :size OFFSET :skipped
        """,
        {
            "is_admin": caller.is_admin,
            "user_seq": caller.user_seq,
            "size": size,
            "skipped": (number - 1) * size,
        },
    )
    named = json.dumps([row[2] for row in rows])
    held = await _held(database, caller, named)
    bans = await _bans(database, caller, named)
    return Machines(machines=[_machine(row, polls, held[row[0], row[2]], bans) for row in rows])


async def lift_bans(database: Database, caller: Caller, machine_id: str) -> LiftedBans:
    """Offer a machine every job of the caller's that it was banned from, and wake those who wait."""

    def operation(transaction: Transaction) -> LiftedBans:
        lifted = transaction.all(
            """
            DELETE FROM bans WHERE machine_id = :machine_id AND job_seq IN (
                SELECT job_seq FROM jobs WHERE status = 'pending' AND (:is_admin OR user_seq = :user_seq)
                    AND jobs.job_seq = bans.job_seq
            ) RETURNING job_seq
            """,
            {"machine_id": machine_id, "is_admin": caller.is_admin, "user_seq": caller.user_seq},
        )
        for (job_seq,) in lifted:
            _wake_group_of(transaction, job_seq)
        return LiftedBans(count=len(lifted))

    return await database.write(Order.UPKEEP, operation)


def _wake_group_of(transaction: Transaction, job_seq: int) -> None:
    row = transaction.one(
        """
        SELECT jobs.user_seq, container_groups.container_group_id
        FROM jobs JOIN container_groups ON container_groups.group_seq = jobs.group_seq WHERE job_seq = ?
        """,
        (job_seq,),
    )
    if row is not None:
        transaction.wake(group_key(row[0], row[1]))


def _machine(row: Row, polls: Polls, jobs: list[Row], bans: dict[_Name, int]) -> Machine:
    user_seq, user_id, machine_id, polled, groups, group_seqs = row
    seen = [polls.seen(group_seq, machine_id) for group_seq in json.loads(group_seqs)]
    heard = [one[7] or 0 for one in jobs]
    newest = max((one for one in seen if one is not None), default=None)
    return Machine(
        machine_id=machine_id,
        user_id=user_id,
        container_groups=sorted(json.loads(groups)),
        last_seen=iso(max([polled, *heard, *([newest[0]] if newest else [])])),
        version=(newest[1] or None) if newest else next((one[6] for one in jobs), None),
        jobs=[
            HeldJob(
                job_id=one[2], container_group_id=one[3], attempt=one[4],
                heartbeat=iso_or_none(one[7]), lease_until=iso(one[5]),
            )
            for one in jobs
        ],
        num_bans=bans.get((user_seq, machine_id), 0),
    )  # fmt: skip


async def _held(database: Database, caller: Caller, named: str) -> dict[_Name, list[Row]]:
    held: dict[_Name, list[Any]] = defaultdict(list)
    # The index of leases holds the running jobs only; that of users holds all there ever were.
    for row in await database.all(
        """
        SELECT jobs.user_seq, jobs.machine_id, jobs.job_id, container_groups.container_group_id, jobs.attempt,
            jobs.lease_expires, attempts.version, jobs.heartbeat
        FROM jobs INDEXED BY jobs_leased
        JOIN container_groups ON container_groups.group_seq = jobs.group_seq
        JOIN attempts ON attempts.job_seq = jobs.job_seq AND attempts.attempt = jobs.attempt
        WHERE jobs.status = 'running' AND (:is_admin OR jobs.user_seq = :user_seq)
            AND jobs.machine_id IN (SELECT value FROM json_each(:named)) LIMIT :most
        """,
        {
            "is_admin": caller.is_admin,
            "user_seq": caller.user_seq,
            "named": named,
            "most": _MOST_JOBS,
        },
    ):
        held[row[0], row[1]].append(row)
    return held


async def _bans(database: Database, caller: Caller, named: str) -> dict[_Name, int]:
    rows = await database.all(
        """
        SELECT jobs.user_seq, bans.machine_id, count(*)
        FROM bans JOIN jobs ON jobs.job_seq = bans.job_seq
        WHERE jobs.status = 'pending' AND (bans.until IS NULL OR bans.until > 0)
            AND (:is_admin OR jobs.user_seq = :user_seq)
            AND bans.machine_id IN (SELECT value FROM json_each(:named))
        GROUP BY jobs.user_seq, bans.machine_id
        """,
        {"is_admin": caller.is_admin, "user_seq": caller.user_seq, "named": named},
    )
    return {(row[0], row[1]): row[2] for row in rows}
