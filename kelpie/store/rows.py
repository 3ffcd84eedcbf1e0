"""Rows of the job tables and the wire objects made of them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from kelpie.contract import Checkpoint, Job, JobSpec, Progress
from kelpie.lifecycle import JobStatus
from kelpie.store.clock import iso, iso_or_none
from kelpie.store.transaction import Row


class JobRow(Struct, frozen=True, gc=False):
    """The state of a job with its submission; the order of the fields is that of `JOB_COLUMNS`."""

    job_seq: int
    job_id: str
    user_seq: int
    user_id: str
    container_group_id: str
    status: str
    priority: int
    attempt: int
    machine_id: str | None
    timeout_s: float | None
    max_failures: int
    num_failures: int
    num_interruptions: int
    num_heartbeats: int
    retries: int
    created: int
    started: int | None
    completed: int | None
    canceled: int | None
    failed: int | None
    heartbeat: int | None
    progress: str | None
    last_checkpoint: str | None
    reason: str | None
    webhook_events: int
    definition: str


STATE_COLUMNS = """
    job_seq, job_id, user_seq, status, priority, attempt, machine_id, timeout_s, max_failures,
    num_failures, num_interruptions, num_heartbeats, retries, created, started, completed, canceled,
    failed, heartbeat, progress, last_checkpoint, reason, webhook_events
"""
"""The columns of `jobs` in a `JobRow`, in its order."""

_STATE = [f"jobs.{name.strip()}" for name in STATE_COLUMNS.split(",")]
JOB_COLUMNS = ", ".join(
    [*_STATE[:3], "users.user_id", "container_groups.container_group_id", *_STATE[3:], "job_specs.definition"]
)
"""All of a `JobRow`, from `JOB_TABLES`."""

JOB_TABLES = """
    jobs
    JOIN users ON users.user_seq = jobs.user_seq
    JOIN container_groups ON container_groups.group_seq = jobs.group_seq
    JOIN job_specs ON job_specs.job_seq = jobs.job_seq
"""

decode_spec = msgspec.json.Decoder(JobSpec).decode
_decode_progress = msgspec.json.Decoder(Progress).decode
_decode_checkpoint = msgspec.json.Decoder(Checkpoint).decode

# What a submission says about itself and the state does not change; None means the contract's default.
_FROM_SPEC = tuple(
    name
    for name in JobSpec.__struct_fields__
    if name in Job.__struct_fields__
    and name not in {"container_group_id", "priority", "timeout_s", "max_failures"}
)


def job_of(row: Row) -> Job:
    """Make the wire object from one row of `JOB_COLUMNS`."""
    state = JobRow(*row)
    return job_from(state, decode_spec(state.definition))


def job_from(state: JobRow, spec: JobSpec) -> Job:
    """Make the wire object from a state and the submission it belongs to."""
    submitted: dict[str, Any] = {
        name: value for name in _FROM_SPEC if (value := getattr(spec, name)) is not None
    }
    return Job(
        **submitted,
        id=state.job_id,
        user_id=state.user_id,
        status=JobStatus(state.status),
        created=iso(state.created),
        started=iso_or_none(state.started),
        completed=iso_or_none(state.completed),
        canceled=iso_or_none(state.canceled),
        failed=iso_or_none(state.failed),
        heartbeat=iso_or_none(state.heartbeat),
        num_failures=state.num_failures,
        machine_id=state.machine_id,
        max_failures=state.max_failures,
        container_group_id=state.container_group_id,
        num_heartbeats=state.num_heartbeats,
        priority=state.priority,
        timeout_s=state.timeout_s,
        attempt=state.attempt,
        num_interruptions=state.num_interruptions,
        retries=state.retries,
        progress=None if state.progress is None else _decode_progress(state.progress),
        last_checkpoint=None if state.last_checkpoint is None else _decode_checkpoint(state.last_checkpoint),
        reason=state.reason,
    )
