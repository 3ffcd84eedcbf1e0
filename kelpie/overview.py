"""Messages about the whole: why a job waits, which queues there are, who works on them.

A part of the wire contract in a file of its own, because `contract.py` is long enough.
"""

from __future__ import annotations

from msgspec import Struct

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
