"""Leases: renewing one, and taking back one that was lost (rules 2 and 3)."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from kelpie.contract import Checkpoint, HeartbeatAnswer, Progress
from kelpie.errors import LeaseLost, NotFound
from kelpie.lifecycle import FINAL, LEASE_INTERVALS, JobStatus, Outcome, Reason, Standing
from kelpie.store import attempts, events, machines
from kelpie.store.access import Caller
from kelpie.store.database import Database
from kelpie.store.reports import Found, Speaker, look_up
from kelpie.store.transaction import PROGRESS, Transaction, job_key
from kelpie.store.writer import Order

_MS = 1000
_encode = msgspec.json.Encoder().encode


class Sign(Struct, frozen=True, kw_only=True):
    """What a heartbeat carries beside its sender."""

    progress: Progress | None = None
    checkpoint: Checkpoint | None = None


async def heartbeat(
    database: Database, caller: Caller, job_id: str, speaker: Speaker, sign: Sign
) -> HeartbeatAnswer:
    """Renew a lease, or say why not: LeaseLost and NotFound for those who know attempts."""

    def operation(transaction: Transaction) -> HeartbeatAnswer:
        renewed = _renew(transaction, caller, job_id, speaker, sign)
        if renewed is not None:
            return renewed
        found = look_up(transaction, caller, job_id, speaker)
        if found is not None and found.standing is Standing.LOST:
            _revive(transaction, found.job_seq, found.attempt, speaker)
            transaction.wake(job_key(job_id))
            return _renew(transaction, caller, job_id, speaker, sign) or HeartbeatAnswer(status="running")
        if speaker.attempt is not None:
            if found is None:
                raise NotFound("Job not found")
            raise LeaseLost(
                f"Attempt {speaker.attempt} is not the live attempt of this job.", job_status=found.status
            )
        return HeartbeatAnswer(status=_legacy_status(transaction, found, speaker))

    return await database.write(Order.REPORT, operation)


def _renew(
    transaction: Transaction, caller: Caller, job_id: str, speaker: Speaker, sign: Sign
) -> HeartbeatAnswer | None:
    # A legacy worker cannot tell whether it stores checkpoints, so its sign of life counts as
    # progress: rule 8 must not end a job that may well be resuming each time.
    productive = speaker.attempt is None or sign.progress is not None or sign.checkpoint is not None
    row = transaction.one(
        f"""
        UPDATE jobs SET heartbeat = :wall, num_heartbeats = num_heartbeats + 1,
            lease_expires = :now + heartbeat_interval * {LEASE_INTERVALS * _MS},
            progress = coalesce(:progress, progress),
            last_checkpoint = coalesce(:checkpoint, last_checkpoint),
            productive = max(productive, :productive)
        WHERE job_id = :job_id AND user_seq = :user_seq AND status = 'running'
            AND machine_id = :machine_id AND attempt = coalesce(:attempt, attempt)
            AND (:bound IS NULL OR group_seq = (
                SELECT group_seq FROM container_groups
                WHERE user_seq = :user_seq AND container_group_id = :bound
            ))
        RETURNING timeout_s
        """,
        {
            "wall": transaction.wall,
            "now": transaction.now,
            "progress": _text(sign.progress),
            "checkpoint": _text(sign.checkpoint),
            "productive": productive,
            "job_id": job_id,
            "user_seq": caller.user_seq,
            "machine_id": speaker.machine_id,
            "attempt": speaker.attempt,
            "bound": caller.container_group_id,
        },
    )
    if row is not None and sign.progress is not None:
        transaction.wake((PROGRESS, caller.user_seq, job_id))
    return None if row is None else HeartbeatAnswer(status=JobStatus.RUNNING, timeout_s=row[0])


def _text(value: Struct | None) -> str | None:
    return None if value is None else _encode(value).decode()


def _revive(transaction: Transaction, job_seq: int, attempt: int, speaker: Speaker) -> None:
    transaction.run(
        f"""
        UPDATE jobs SET status = 'running', machine_id = :machine_id, heartbeat = :wall,
            lease_expires = :now + heartbeat_interval * {LEASE_INTERVALS * _MS},
            num_interruptions = max(num_interruptions - 1, 0), unproductive = max(unproductive - 1, 0)
        WHERE job_seq = :job_seq AND attempt = :attempt AND status = 'pending'
        """,
        {
            "job_seq": job_seq,
            "attempt": attempt,
            "machine_id": speaker.machine_id,
            "wall": transaction.wall,
            "now": transaction.now,
        },
    )
    attempts.reopen(transaction, job_seq, attempt)
    events.record(
        transaction, job_seq, "revived", actor=speaker.actor, attempt=attempt,
        machine_id=speaker.machine_id, source=JobStatus.PENDING, target=JobStatus.RUNNING,
    )  # fmt: skip


def _legacy_status(transaction: Transaction, found: Found | None, speaker: Speaker) -> str:
    if found is None:
        # The original says 404, and its worker then loops for ever with the command running on.
        return JobStatus.CANCELED
    if found.status in FINAL:
        # An attempt that the server itself ended runs on until its worker hears the one word it heeds.
        return JobStatus.CANCELED if _was_timed_out(transaction, found, speaker) else found.status
    if found.status is JobStatus.PENDING and _last_word_was_failed(transaction, found, speaker):
        return JobStatus.PENDING
    return JobStatus.CANCELED


def _was_timed_out(transaction: Transaction, found: Found, speaker: Speaker) -> bool:
    last = attempts.last_of_machine(transaction, found.job_seq, speaker.machine_id)
    return last == (Outcome.FAILED, Reason.TIMEOUT)


def _last_word_was_failed(transaction: Transaction, found: Found, speaker: Speaker) -> bool:
    last = attempts.last_of_machine(transaction, found.job_seq, speaker.machine_id)
    if last is not None:
        outcome, reason = last
        # A time limit is enforced by the server: that machine said nothing and runs on until it is told.
        return outcome is Outcome.FAILED and reason != Reason.TIMEOUT
    return found.attempt == 0 and machines.is_banned(transaction, found.job_seq, speaker.machine_id)
