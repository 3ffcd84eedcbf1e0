"""Messages about the whole: why a job waits, which queues there are, who works on them.

A part of the wire contract in a file of its own, because `contract.py` is long enough.
"""

from __future__ import annotations

from msgspec import Struct

from kelpie.contract import Progress
from kelpie.lifecycle import JobStatus


class PolledGroup(Struct, kw_only=True):
    """A container group that machines ask for work, and when one did last."""

    container_group_id: str
    machines: int
    last_polled: str


class Why(Struct, kw_only=True, omit_defaults=True):
    """One reason why a job is where it is: `kind` for programs, `message` for people."""

    kind: str
    message: str
    until: str | None = None
    machines: list[str] = []
    polled_groups: list[PolledGroup] = []
    position: int | None = None
    is_position_exact: bool = True


class Explanation(Struct, kw_only=True):
    """Why a job is (still) where it is: `summary` is one sentence made of the reasons."""

    job_id: str
    status: JobStatus
    summary: str
    reasons: list[Why]


class GroupWorker(Struct, kw_only=True):
    """A machine that asked a group for work, and when it did last (noted once a minute)."""

    machine_id: str
    last_polled: str


class ContainerGroup(Struct, kw_only=True):
    """A queue: its jobs by state, how long the oldest waits, and its newest workers (at most 20)."""

    container_group_id: str
    user_id: str
    jobs: dict[str, int]
    oldest_pending: str | None
    oldest_pending_s: float | None
    num_workers: int
    workers: list[GroupWorker]


class ContainerGroups(Struct, kw_only=True):
    """One page of container groups; `counted` is when their jobs were counted, some seconds ago at most."""

    counted: str
    container_groups: list[ContainerGroup]


class HeldJob(Struct, kw_only=True):
    """A job that a machine holds."""

    job_id: str
    container_group_id: str
    attempt: int
    heartbeat: str | None
    lease_until: str


class Machine(Struct, kw_only=True):
    """A computer that asks for work; `version` is None for a legacy worker or one not heard since a start."""

    machine_id: str
    user_id: str
    container_groups: list[str]
    last_seen: str
    version: str | None
    jobs: list[HeldJob]
    num_bans: int


class Machines(Struct, kw_only=True):
    """One page of machines, the one that was seen last first."""

    machines: list[Machine]


class LiftedBans(Struct, kw_only=True):
    """How many jobs a machine is offered again."""

    count: int


class FeedEvent(Struct, kw_only=True, rename={"source": "from", "target": "to"}):
    """Something that happened to one of the caller's jobs: `status` on `GET /events`."""

    id: int
    at: str
    job_id: str
    container_group_id: str
    kind: str
    attempt: int
    machine_id: str | None
    source: str | None
    target: str | None
    reason: str | None


class FeedProgress(Struct, kw_only=True):
    """How far one of the caller's jobs is now: `progress` on `GET /events`."""

    job_id: str
    attempt: int
    progress: Progress
