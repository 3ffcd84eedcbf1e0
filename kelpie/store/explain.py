"""Why a job is (still) where it is: reads what a claim would look at, and says it in words.

Nothing here decides anything; `claims.py` does. A reason of another kind is one
more function that yields a `Why` in `_pending`.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from kelpie.errors import NotFound
from kelpie.lifecycle import JobStatus
from kelpie.overview import Explanation, PolledGroup, Why
from kelpie.store.access import Caller
from kelpie.store.claims import Policy
from kelpie.store.clock import iso
from kelpie.store.database import Database

POLLS_NOW_MS = 150_000
"""Who polled within this time is taken to be there: a poll lasts up to 60 s and is noted once a minute."""
MOST_COUNTED = 1000
"""A place in the queue beyond this is "more than 1000"."""
_MOST_MACHINES = 1000
_FEW = 3
_CLAIMABLE = (
    "group_seq = :group_seq AND status = 'pending' AND not_before = 0 AND run_at = 0 AND waits_for = 0"
)


class _State(Struct, frozen=True):
    """What is read of the job itself."""

    job_seq: int
    user_seq: int
    group_seq: int
    container_group_id: str
    status: str
    priority: int
    run_at: int
    not_before: int
    waits_for: int
    attempt: int
    machine_id: str | None
    lease_expires: int | None
    heartbeat: int | None
    num_failures: int
    max_failures: int
    reason: str | None
    completed: int | None
    canceled: int | None
    failed: int | None


class _Machine(Struct, frozen=True):
    """A machine that polls the job's group, and its ban for this job if it has one."""

    machine_id: str
    polled: int
    since: int | None
    until: int | None

    @property
    def is_banned(self) -> bool:
        """Whether it failed the job."""
        return self.since is not None and self.until is None

    def is_held_off(self, now: int) -> bool:
        """Whether it gave the job back so soon that others come first."""
        return self.until is not None and self.until > now


async def explain(
    database: Database, caller: Caller, policy: Policy, job_id: str, *, now: int
) -> Explanation:
    """Say why a job is where it is; raises NotFound, for other users' jobs too."""
    row = database.one(
        """
        SELECT jobs.job_seq, jobs.user_seq, jobs.group_seq, container_groups.container_group_id, jobs.status,
            jobs.priority, jobs.run_at, jobs.not_before, jobs.waits_for, jobs.attempt, jobs.machine_id,
            jobs.lease_expires, jobs.heartbeat, jobs.num_failures, jobs.max_failures, jobs.reason,
            jobs.completed, jobs.canceled, jobs.failed
        FROM jobs JOIN container_groups ON container_groups.group_seq = jobs.group_seq
        WHERE jobs.job_id = ?
        """,
        (job_id,),
    )
    if row is None or not (caller.is_admin or row[1] == caller.user_seq):
        raise NotFound("Job not found")
    job = _State(*row)
    if job.status == JobStatus.PENDING:
        reasons = await _pending(database, policy, job, now)
    else:
        reasons = [_running(job) if job.status == JobStatus.RUNNING else _ended(job)]
    summary = "; ".join(why.message for why in reasons)
    return Explanation(job_id=job_id, status=JobStatus(job.status), summary=summary, reasons=reasons)


async def _pending(database: Database, policy: Policy, job: _State, now: int) -> list[Why]:
    machines = await _machines(database, job, now - max(policy.ban_window_ms, POLLS_NOW_MS))
    present = [one for one in machines if one.polled > now - POLLS_NOW_MS]
    reasons = [*_not_yet(job), *await _waits_for(database, job)]
    if not present:
        reasons.append(await _nobody_polls(database, job))
    reasons += _refused(machines, present, policy, now)
    if not (job.run_at or job.not_before or job.waits_for):
        reasons.append(await _queued(database, job))
    return reasons


def _not_yet(job: _State) -> Iterator[Why]:
    if job.run_at:
        until = iso(job.run_at)
        yield Why(kind="run-at", message=f"does not start before {until} (run_at)", until=until)
    if job.not_before:
        until = iso(job.not_before)
        times = f"failed {job.num_failures} of {job.max_failures} times"
        yield Why(kind="retry-delay", message=f"{times} and is not tried again before {until}", until=until)


async def _waits_for(database: Database, job: _State) -> list[Why]:
    if not job.waits_for:
        return []
    rows = await database.all(
        """
        SELECT jobs.job_id, jobs.status FROM dependencies
        JOIN jobs ON jobs.job_seq = dependencies.needs_seq
        WHERE dependencies.job_seq = ? LIMIT ?
        """,
        (job.job_seq, _FEW),
    )
    named = ", ".join(f"{job_id} ({status})" for job_id, status in rows)
    more = f" and {job.waits_for - len(rows)} more" if job.waits_for > len(rows) else ""
    return [Why(kind="dependency", message=f"waits for {named}{more} to be completed")]


async def _machines(database: Database, job: _State, polled_after: int) -> list[_Machine]:
    rows = await database.all(
        """
        SELECT polls.machine_id, polls.polled, bans.since, bans.until
        FROM polls LEFT JOIN bans ON bans.job_seq = :job_seq AND bans.machine_id = polls.machine_id
        WHERE polls.group_seq = :group_seq AND polls.polled > :polled_after
        ORDER BY polls.machine_id LIMIT :most
        """,
        {
            "job_seq": job.job_seq,
            "group_seq": job.group_seq,
            "polled_after": polled_after,
            "most": _MOST_MACHINES,
        },
    )
    return [_Machine(*row) for row in rows]


async def _nobody_polls(database: Database, job: _State) -> Why:
    busy = await database.all(
        """
        SELECT DISTINCT machine_id FROM jobs INDEXED BY jobs_leased
        WHERE status = 'running' AND group_seq = ? LIMIT ?
        """,
        (job.group_seq, _MOST_MACHINES),
    )
    if busy:
        machines = [row[0] for row in busy]
        return Why(
            kind="workers-busy",
            message=f"the workers of the container group {job.container_group_id} are busy "
            f"({_named(machines)}), and no other polls it",
            machines=machines,
        )
    groups = await _polled_groups(database, job)
    message = f"waits for a worker of the container group {job.container_group_id}: none polls it now"
    if groups:
        listed = ", ".join(f"{one.container_group_id} (last {one.last_polled})" for one in groups[:_FEW])
        message += f"; groups of this user that were polled: {listed}"
    else:
        message += ", nor any other group of this user"
    return Why(kind="no-worker", message=message, polled_groups=groups)


async def _polled_groups(database: Database, job: _State) -> list[PolledGroup]:
    rows = await database.all(
        """
        SELECT container_groups.container_group_id, count(*), max(polls.polled)
        FROM container_groups JOIN polls ON polls.group_seq = container_groups.group_seq
        WHERE container_groups.user_seq = ? GROUP BY polls.group_seq ORDER BY 3 DESC LIMIT 20
        """,
        (job.user_seq,),
    )
    return [PolledGroup(container_group_id=row[0], machines=row[1], last_polled=iso(row[2])) for row in rows]


def _refused(machines: list[_Machine], present: list[_Machine], policy: Policy, now: int) -> Iterator[Why]:
    held_off = [one for one in present if one.is_held_off(now)]
    if held_off:
        until = iso(max(one.until or 0 for one in held_off))
        names = [one.machine_id for one in held_off]
        message = f"{_named(names)} gave it back soon after taking it and waits until {until}"
        yield Why(kind="held-off", message=message, until=until, machines=names)
    banned = [one for one in present if one.is_banned]
    if banned and len(banned) == len(present):
        # Rule 7: the window begins with the last poll of a machine without the ban, and a ban lasts one.
        others = [one.polled for one in machines if not one.is_banned]
        begun = max([min(one.since or 0 for one in banned), *others])
        until = iso(begun + policy.ban_window_ms)
        names = [one.machine_id for one in banned]
        message = (
            f"every machine that polls the group has failed it ({_named(names)}); "
            f"unless another one polls, they get it again from {until}"
        )
        yield Why(kind="banned", message=message, until=until, machines=names)


async def _queued(database: Database, job: _State) -> Why:
    limits = {"group_seq": job.group_seq, "priority": job.priority, "job_seq": job.job_seq}
    before = 0
    for condition in ("priority > :priority", "priority = :priority AND job_seq < :job_seq"):
        counted = await database.all(
            f"""
            SELECT count(*) FROM (
                SELECT 1 FROM jobs WHERE {_CLAIMABLE} AND {condition} LIMIT {MOST_COUNTED}
            )
            """,
            limits,
        )
        before += counted[0][0]
    exact = before < MOST_COUNTED
    position = min(before + 1, MOST_COUNTED)
    place = f"is number {position}" if exact else f"has more than {MOST_COUNTED} jobs before it"
    return Why(
        kind="queue",
        message=f"{place} in the queue of the container group {job.container_group_id}",
        position=position,
        is_position_exact=exact,
    )


def _running(job: _State) -> Why:
    until = iso(job.lease_expires or 0)
    heard = f", last heartbeat {iso(job.heartbeat)}" if job.heartbeat else ""
    message = f"attempt {job.attempt} runs on {job.machine_id}{heard}; its lease lasts until {until}"
    return Why(kind="running", message=message, until=until, machines=[job.machine_id or ""])


def _ended(job: _State) -> Why:
    because = f" ({job.reason})" if job.reason else ""
    if job.status == JobStatus.COMPLETED:
        message = f"completed at {iso(job.completed or 0)} by attempt {job.attempt} on {job.machine_id}"
    elif job.status == JobStatus.CANCELED:
        message = f"canceled at {iso(job.canceled or 0)}"
    else:
        times = f" after {job.num_failures} of {job.max_failures} failures" if job.num_failures else ""
        message = f"failed at {iso(job.failed or 0)}{times}{because}"
    return Why(kind=job.status, message=message)


def _named(machines: list[str]) -> str:
    return " and ".join(machines) if len(machines) <= _FEW else f"{len(machines)} machines"
