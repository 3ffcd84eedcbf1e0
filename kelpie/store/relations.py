"""What a submission says about other rows: the jobs it depends on, its labels and its name."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct, structs

from kelpie.contract import JobSpec
from kelpie.errors import InvalidFields, Issue
from kelpie.lifecycle import JobStatus
from kelpie.store import dependencies
from kelpie.store.access import Caller
from kelpie.store.selection import NAME_KEY
from kelpie.store.transaction import Transaction

_encode = msgspec.json.Encoder().encode


class NewJob(Struct, frozen=True, kw_only=True, gc=False):
    """A checked submission: prefixes normalised, `run_at` in wall milliseconds (0: at once)."""

    spec: JobSpec
    definition: str
    priority: int
    run_at: int
    timeout_s: float | None
    max_failures: int
    max_interruptions: int
    heartbeat_interval: int
    index: int | None = None
    """Its place in a batch, for errors; None when it was submitted alone."""


def prepare(jobs: Sequence[NewJob]) -> list[tuple[str, NewJob]]:
    """Give each job its id, and turn names within the batch (`#0`) into ids."""
    ids = [str(uuid.uuid4()) for _ in jobs]
    return [(job_id, _resolved(job, ids)) for job_id, job in zip(ids, jobs, strict=True)]


def depend(transaction: Transaction, caller: Caller, made: Sequence[tuple[int, str, NewJob]]) -> None:
    """Let new jobs wait for what they name; raises InvalidFields for ids this user does not have."""
    if not any(job.spec.after for _, _, job in made):
        return
    members = {job_id: (job_seq, "pending") for job_seq, job_id, _ in made}
    pairs: list[tuple[int, int]] = []
    issues: list[Issue] = []
    for job_seq, _, job in made:
        for number, needed in enumerate(job.spec.after or []):
            found = members.get(needed) or _find(transaction, caller, needed)
            if found is None:
                place = ["body"] if job.index is None else ["body", job.index]
                issues.append(
                    Issue("unknown", "Expected the id of a job of yours", [*place, "after", number])
                )
            elif found[1] != JobStatus.COMPLETED:
                pairs.append((job_seq, found[0]))
    if issues:
        raise InvalidFields(issues)
    dependencies.await_jobs(transaction, pairs)


def mark(transaction: Transaction, caller: Caller, specs: Sequence[tuple[int, JobSpec]]) -> None:
    """Store the labels and names by which new jobs are found."""
    rows = [
        (caller.user_seq, key, value, transaction.wall, job_seq)
        for job_seq, spec in specs
        for key, value in _marks(spec)
    ]
    if rows:
        transaction.many(
            "INSERT INTO job_labels (user_seq, key, value, created, job_seq) VALUES (?, ?, ?, ?, ?)", rows
        )


def _resolved(job: NewJob, ids: list[str]) -> NewJob:
    after = job.spec.after or []
    if not any(needed.startswith("#") for needed in after):
        return job
    real = [ids[int(needed[1:])] if needed.startswith("#") else needed for needed in after]
    spec = structs.replace(job.spec, after=real)
    return structs.replace(job, spec=spec, definition=_encode(spec).decode())


def _find(transaction: Transaction, caller: Caller, job_id: str) -> tuple[int, str] | None:
    row = transaction.one(
        "SELECT job_seq, status FROM jobs WHERE job_id = ? AND user_seq = ?", (job_id, caller.user_seq)
    )
    return None if row is None else (row[0], row[1])


def _marks(spec: JobSpec) -> Iterator[tuple[str, str]]:
    if spec.name is not None:
        yield NAME_KEY, spec.name
    yield from (spec.labels or {}).items()
