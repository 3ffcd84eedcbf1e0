"""Which jobs a filter means, read by an index whatever is asked.

Every list is a merge of streams that one index each gives in order of
submission: all jobs of a user, of a group in one status, or with one label. No
stream is read further than the page goes, so nothing depends on how many jobs
there are; an admin's list merges the streams of every user.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from kelpie.lifecycle import JobStatus
from kelpie.store.access import Caller

NAME_KEY = ""
"""The key under which `job_labels` holds a job's name."""


class Selection(Struct, frozen=True, kw_only=True):
    """What is asked for; times are milliseconds, both bounds exclusive."""

    statuses: tuple[JobStatus, ...] = ()
    container_group_id: str | None = None
    name: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    ids: tuple[str, ...] | None = None
    created_after: int | None = None
    created_before: int | None = None
    cursor: tuple[int, int] | None = None
    """`created` and `job_seq` of the last job of the page before."""
    limit: int = 100
    offset: int = 0
    is_ascending: bool = False


def selected(caller: Caller, wanted: Selection) -> tuple[str, dict[str, Any]]:
    """Make the query that gives the `job_seq` of each, in order, and its parameters."""
    if wanted.ids is not None:
        streams, matching, source = _by_id(caller, wanted)
    elif wanted.name is not None or wanted.labels:
        streams, matching, source = _by_label(caller, wanted)
    elif wanted.statuses or wanted.container_group_id is not None:
        streams, matching, source = _by_group(caller, wanted)
    else:
        streams, source = _users(caller), "one"
        matching = "jobs AS one INDEXED BY jobs_by_user WHERE one.user_seq = stream.user_seq"
    sql = f"""
        SELECT job.job_seq FROM ({streams}) AS stream
        CROSS JOIN jobs AS job ON job.job_seq IN (
            SELECT {source}.job_seq FROM {matching} {_within(source, wanted)}
            ORDER BY {order(source, wanted)} LIMIT :limit + :offset
        )
        ORDER BY {order("job", wanted)} LIMIT :limit OFFSET :offset
    """
    return sql, _values(caller, wanted)


def order(table: str, wanted: Selection) -> str:
    """Sort by `created`, ties by submission."""
    direction = "ASC" if wanted.is_ascending else "DESC"
    return f"{table}.created {direction}, {table}.job_seq {direction}"


def _by_id(caller: Caller, wanted: Selection) -> tuple[str, str, str]:
    mine = "" if caller.is_admin else "AND one.user_seq = :user_seq"
    matching = f"""
        jobs AS one WHERE one.job_id IN (SELECT value FROM json_each(:ids)) {mine}
        {_in_status(wanted)} {_in_group(wanted)} {_with_labels("one", _pairs(wanted), 0)}
    """
    return "SELECT 1", matching, "one"


def _by_label(caller: Caller, wanted: Selection) -> tuple[str, str, str]:
    pairs = _pairs(wanted)
    matching = f"""
        job_labels AS label CROSS JOIN jobs AS one ON one.job_seq = label.job_seq
        WHERE label.user_seq = stream.user_seq AND label.key = :key_0 AND label.value = :value_0
        {_in_status(wanted)} {_in_group(wanted)} {_with_labels("label", pairs, 1)}
    """
    return _users(caller), matching, "label"


def _by_group(caller: Caller, wanted: Selection) -> tuple[str, str, str]:
    statuses = ", ".join(f"('{status}')" for status in wanted.statuses or tuple(JobStatus))
    conditions = ["1"] if caller.is_admin else ["user_seq = :user_seq"]
    if wanted.container_group_id is not None:
        conditions.append("container_group_id = :group")
    streams = f"""
        SELECT container_groups.group_seq, states.column1 AS status FROM container_groups
        CROSS JOIN (VALUES {statuses}) AS states WHERE {" AND ".join(conditions)}
    """
    matching = """
        jobs AS one INDEXED BY jobs_by_group
        WHERE one.group_seq = stream.group_seq AND one.status = stream.status
    """
    return streams, matching, "one"


def _users(caller: Caller) -> str:
    return "SELECT user_seq FROM users" if caller.is_admin else "SELECT :user_seq AS user_seq"


def _within(table: str, wanted: Selection) -> str:
    conditions = []
    if wanted.created_after is not None:
        conditions.append(f"AND {table}.created > :created_after")
    if wanted.created_before is not None:
        conditions.append(f"AND {table}.created < :created_before")
    if wanted.cursor is not None:
        # The first half is what the index seeks by, the second sorts out jobs of one millisecond.
        beyond = ">" if wanted.is_ascending else "<"
        conditions.append(
            f"AND {table}.created {beyond}= :at"
            f" AND ({table}.created {beyond} :at OR {table}.job_seq {beyond} :seq)"
        )
    return " ".join(conditions)


def _in_status(wanted: Selection) -> str:
    # The unary plus: these narrow what another index has found, and must not be the way in.
    statuses = ", ".join(f"'{status}'" for status in wanted.statuses)
    return f"AND +one.status IN ({statuses})" if statuses else ""


def _in_group(wanted: Selection) -> str:
    if wanted.container_group_id is None:
        return ""
    groups = "SELECT group_seq FROM container_groups WHERE container_group_id = :group"
    return f"AND +one.group_seq IN ({groups})"


def _pairs(wanted: Selection) -> list[tuple[str, str]]:
    named = [] if wanted.name is None else [(NAME_KEY, wanted.name)]
    return [*named, *wanted.labels]


def _with_labels(table: str, pairs: list[tuple[str, str]], first: int) -> str:
    return " ".join(
        f"""
        AND EXISTS (
            SELECT 1 FROM job_labels AS also WHERE also.job_seq = {table}.job_seq
                AND also.key = :key_{number} AND +also.value = :value_{number}
        )
        """
        for number in range(first, len(pairs))
    )


def _values(caller: Caller, wanted: Selection) -> dict[str, Any]:
    at, seq = wanted.cursor or (None, None)
    return {
        "user_seq": caller.user_seq,
        "group": wanted.container_group_id,
        "ids": msgspec.json.encode(wanted.ids or ()).decode(),
        "created_after": wanted.created_after,
        "created_before": wanted.created_before,
        "at": at,
        "seq": seq,
        "limit": wanted.limit,
        "offset": wanted.offset,
        **{f"key_{number}": key for number, (key, _) in enumerate(_pairs(wanted))},
        **{f"value_{number}": value for number, (_, value) in enumerate(_pairs(wanted))},
    }
