"""Every way an attempt or a job ends: completed, failed, given back, canceled (rules 2, 3, 5, 6, 8 and 9).

One door for each; the door checks who is speaking, and the change itself is one
UPDATE that names job, attempt and expected state.
"""

from __future__ import annotations

import random

import msgspec
from msgspec import Struct

from kelpie.contract import Completion, Failure, Interruption, JobSpec, Usage
from kelpie.errors import AlreadyFinal, NotFound
from kelpie.lifecycle import NO_BAN, SHORT_ATTEMPT_S, JobStatus, Outcome, Reason, Standing, retry_delay_s
from kelpie.store import attempts, dependencies, events, machines, outbox
from kelpie.store.access import Caller
from kelpie.store.attempts import Ending
from kelpie.store.database import Database
from kelpie.store.reports import Found, Speaker, find, is_repeat, look_up, refusal
from kelpie.store.transaction import Transaction, group_key, job_key
from kelpie.store.writer import Order

_MS = 1000
_JITTER = 0.1
_decode_spec = msgspec.json.Decoder(JobSpec).decode
_encode = msgspec.json.Encoder().encode

# An interruption is free, but not endless without progress (rule 8). One fragment serves the
# machine that gives back and the lease that runs out.
INTERRUPTED = """
    lease_expires = NULL,
    num_interruptions = num_interruptions + 1,
    unproductive = CASE WHEN productive THEN 0 ELSE unproductive + 1 END,
    status = CASE WHEN max_interruptions > 0 AND NOT productive AND unproductive + 1 >= max_interruptions
        THEN 'failed' ELSE 'pending' END,
    failed = CASE WHEN max_interruptions > 0 AND NOT productive AND unproductive + 1 >= max_interruptions
        THEN :wall ELSE failed END,
    reason = CASE WHEN max_interruptions > 0 AND NOT productive AND unproductive + 1 >= max_interruptions
        THEN 'no-progress' ELSE reason END
"""


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether a report was applied; one that was not changes nothing."""

    is_applied: bool


async def complete(
    database: Database, caller: Caller, job_id: str, speaker: Speaker, report: Completion
) -> Verdict:
    """End a job well; raises LeaseLost or NotFound for a report that names an attempt and does not apply."""

    def operation(transaction: Transaction) -> Verdict:
        found = look_up(transaction, caller, job_id, speaker)
        if not _applies(transaction, caller, found, speaker, Outcome.COMPLETED):
            return _ignored(transaction, found, speaker, Outcome.COMPLETED)
        if found is not None and not is_repeat(transaction, found, speaker, Outcome.COMPLETED):
            _complete(transaction, found, speaker, report)
        return Verdict(is_applied=True)

    return await database.write(Order.REPORT, operation)


async def fail(database: Database, caller: Caller, job_id: str, speaker: Speaker, report: Failure) -> Verdict:
    """Count a failure and ban its machine, or end the job; raises as `complete`."""

    def operation(transaction: Transaction) -> Verdict:
        found = look_up(transaction, caller, job_id, speaker)
        meant = _meant(transaction, found, report)
        if not _applies(transaction, caller, found, speaker, meant):
            return _ignored(transaction, found, speaker, Outcome.FAILED)
        if found is None or is_repeat(transaction, found, speaker, meant):
            return Verdict(is_applied=True)
        if found.attempt == 0 and machines.is_banned(transaction, found.job_seq, speaker.machine_id):
            return _ignored(transaction, found, speaker, Outcome.FAILED)
        if meant is Outcome.INTERRUPTED:
            _interrupt(transaction, found, speaker, _ending(report, meant))
        else:
            _fail(transaction, found, speaker, _ending(report, meant), usage=report)
        return Verdict(is_applied=True)

    return await database.write(Order.REPORT, operation)


async def give_back(
    database: Database, caller: Caller, job_id: str, speaker: Speaker, report: Interruption
) -> Verdict:
    """Make a job claimable at once because its machine goes away; raises as `complete`."""

    def operation(transaction: Transaction) -> Verdict:
        found = look_up(transaction, caller, job_id, speaker)
        outside = found is not None and found.standing is Standing.OUTSIDE and speaker.attempt is None
        if outside or not _applies(transaction, caller, found, speaker, Outcome.INTERRUPTED):
            return _ignored(transaction, found, speaker, Outcome.INTERRUPTED)
        if found is not None and not is_repeat(transaction, found, speaker, Outcome.INTERRUPTED):
            ending = Ending(outcome=Outcome.INTERRUPTED, reason=report.reason, usage=report)
            _interrupt(transaction, found, speaker, ending)
        return Verdict(is_applied=True)

    return await database.write(Order.REPORT, operation)


async def cancel(database: Database, caller: Caller, job_id: str) -> None:
    """Cancel a job; repeating it is harmless. Raises NotFound, or AlreadyFinal when it ended otherwise."""

    def operation(transaction: Transaction) -> None:
        found = find(transaction, job_id, caller)
        if found is None:
            raise NotFound("Job not found")
        if found.status in {JobStatus.COMPLETED, JobStatus.FAILED}:
            raise AlreadyFinal(f"Job already {found.status}")
        if found.status is not JobStatus.CANCELED:
            cancel_found(transaction, found, actor=f"user:{caller.username}")

    await database.write(Order.REPORT, operation)


def cancel_found(transaction: Transaction, found: Found, *, actor: str) -> None:
    """Cancel a job that has not ended; its holder hears at once."""
    _changed_one(
        transaction.run(
            """
            UPDATE jobs SET status = 'canceled', canceled = :wall, heartbeat = :wall, lease_expires = NULL
            WHERE job_seq = :job_seq AND attempt = :attempt AND status = :expected
            """,
            _expecting(found, transaction),
        )
    )
    _end(transaction, found, actor, Ending(outcome=Outcome.CANCELED), JobStatus.CANCELED)


def fail_overdue(transaction: Transaction, found: Found) -> None:
    """End an attempt that ran past its time limit and whose worker does not watch it (rule 9)."""
    speaker = Speaker(machine_id=found.machine_id or "", attempt=found.attempt)
    _fail(
        transaction,
        found,
        speaker,
        Ending(outcome=Outcome.FAILED, reason=Reason.TIMEOUT),
        actor=events.SERVER,
    )


def _applies(
    transaction: Transaction, caller: Caller, found: Found | None, speaker: Speaker, outcome: Outcome
) -> bool:
    if found is not None:
        if found.standing in {Standing.HOLDER, Standing.LOST}:
            return True
        if found.standing is Standing.OUTSIDE and speaker.attempt is None:
            return caller.may_submit
        if is_repeat(transaction, found, speaker, outcome):
            return True
    if speaker.attempt is not None:
        raise refusal(found, speaker)
    return False


def _ignored(transaction: Transaction, found: Found | None, speaker: Speaker, said: Outcome) -> Verdict:
    if found is not None:
        events.record_once(
            transaction, found.job_seq, "ignored-report", actor=speaker.actor, attempt=found.attempt,
            machine_id=speaker.machine_id, source=found.status, target=found.status, reason=said,
        )  # fmt: skip
    return Verdict(is_applied=False)


def _complete(transaction: Transaction, found: Found, speaker: Speaker, report: Completion) -> None:
    _store_last_words(transaction, found, report)
    _changed_one(
        transaction.run(
            """
            UPDATE jobs SET status = 'completed', completed = :wall, heartbeat = :wall,
                machine_id = :machine_id, lease_expires = NULL, reason = NULL
            WHERE job_seq = :job_seq AND attempt = :attempt AND status = :expected
            """,
            {**_expecting(found, transaction), "machine_id": speaker.machine_id},
        )
    )
    ending = Ending(outcome=Outcome.COMPLETED, usage=report)
    _end(transaction, found, speaker.actor, ending, JobStatus.COMPLETED)


def _meant(transaction: Transaction, found: Found | None, report: Failure) -> Outcome:
    # A retry rule may say that this exit code is no failure at all.
    if found is None or found.attempt == 0:
        return Outcome.FAILED
    action = _action(_spec(transaction, found.job_seq), _reason(report), report.exit_code)
    return Outcome.INTERRUPTED if action == "interrupt" else Outcome.FAILED


def _ending(report: Failure, outcome: Outcome) -> Ending:
    return Ending(
        outcome=outcome,
        reason=_reason(report),
        detail=report.detail,
        exit_code=report.exit_code,
        signal=report.signal,
        usage=report,
    )


def _reason(report: Failure) -> str:
    if report.reason is not None:
        return report.reason
    return Reason.SIGNAL if report.signal else Reason.EXIT


def _fail(
    transaction: Transaction,
    found: Found,
    speaker: Speaker,
    ending: Ending,
    *,
    usage: Usage | None = None,
    actor: str = "",
) -> None:
    spec = _spec(transaction, found.job_seq)
    if usage is not None:
        _store_last_words(transaction, found, usage)
    row = transaction.one(
        """
        UPDATE jobs SET num_failures = num_failures + 1, lease_expires = NULL, reason = :reason,
            status = CASE WHEN :is_fatal OR num_failures + 1 >= max_failures THEN 'failed' ELSE 'pending' END,
            failed = CASE WHEN :is_fatal OR num_failures + 1 >= max_failures THEN :wall ELSE failed END
        WHERE job_seq = :job_seq AND attempt = :attempt AND status = :expected
        RETURNING status, num_failures
        """,
        {
            **_expecting(found, transaction),
            "reason": ending.reason,
            "is_fatal": _action(spec, ending.reason, ending.exit_code) == "fail",
        },
    )
    _changed_one(0 if row is None else 1)
    status, num_failures = row or (found.status, 0)
    if status == JobStatus.PENDING:
        _delay(transaction, found.job_seq, spec, num_failures)
    if found.attempt == 0 or ending.reason not in NO_BAN:
        machines.ban(transaction, found.job_seq, speaker.machine_id)
    _end(transaction, found, actor or speaker.actor, ending, JobStatus(status))


def _delay(transaction: Transaction, job_seq: int, spec: JobSpec, num_failures: int) -> None:
    delay_ms = _delay_ms(spec, num_failures)
    if delay_ms:
        transaction.run(
            "UPDATE jobs SET not_before = ? WHERE job_seq = ?", (transaction.now + delay_ms, job_seq)
        )


def _delay_ms(spec: JobSpec, times: int) -> int:
    ceiling_s = 300.0 if spec.retry_delay_max_s is None else spec.retry_delay_max_s
    delay_s = retry_delay_s(times, 5.0 if spec.retry_delay_s is None else spec.retry_delay_s, ceiling_s)
    # Jitter spreads jobs that failed together; it is no secret.
    jittered = delay_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
    return int(min(jittered, ceiling_s) * _MS)


def _action(spec: JobSpec, reason: str | None, exit_code: int | None) -> str:
    # The exit code of a command that was stopped (time limit, upload failure) is not its own word.
    rules = (spec.retry_rules or []) if reason == Reason.EXIT else []
    for rule in rules:
        if exit_code in rule.exit_codes:
            return rule.action
    return "retry"


def _interrupt(transaction: Transaction, found: Found, speaker: Speaker, ending: Ending) -> None:
    if ending.usage is not None:
        _store_last_words(transaction, found, ending.usage)
    if found.standing is Standing.LOST:
        # The job is already pending and was counted when the lease ran out.
        status: str = found.status
    else:
        row = transaction.one(
            f"""
            UPDATE jobs SET {INTERRUPTED}
            WHERE job_seq = :job_seq AND attempt = :attempt AND status = :expected RETURNING status
            """,
            _expecting(found, transaction),
        )
        _changed_one(0 if row is None else 1)
        status = row[0] if row else found.status
    _hold_off_after_short_attempt(transaction, found, speaker)
    _end(transaction, found, speaker.actor, ending, JobStatus(status))


def _hold_off_after_short_attempt(transaction: Transaction, found: Found, speaker: Speaker) -> None:
    if found.started is None or transaction.wall - found.started >= SHORT_ATTEMPT_S * _MS:
        machines.forgive(transaction, found.job_seq, speaker.machine_id)
        return
    times = machines.times_given_back(transaction, found.job_seq, speaker.machine_id) + 1
    delay_ms = _delay_ms(_spec(transaction, found.job_seq), times)
    machines.hold_off(transaction, found.job_seq, speaker.machine_id, delay_ms=delay_ms, times=times)


def _end(transaction: Transaction, found: Found, actor: str, ending: Ending, status: JobStatus) -> None:
    # A cancel leaves an attempt that was already lost as it is; only its own late report may end it again.
    if found.attempt > 0 and not (ending.outcome is Outcome.CANCELED and found.status is JobStatus.PENDING):
        attempts.close(transaction, found.job_seq, found.attempt, ending)
    events.record(
        transaction, found.job_seq, ending.outcome, actor=actor, attempt=found.attempt,
        machine_id=found.machine_id, source=found.status, target=status, reason=ending.reason,
    )  # fmt: skip
    outbox.record_end(
        transaction, found.job_seq, found.webhook_events, ending, source=found.status, target=status,
        machine_id=found.machine_id or events.machine_of(actor), attempt=found.attempt,
    )  # fmt: skip
    transaction.wake(job_key(found.job_id))
    dependencies.settle(transaction, found.job_seq, status)
    if status is JobStatus.PENDING:
        transaction.wake(group_key(found.user_seq, found.container_group_id))


def _store_last_words(transaction: Transaction, found: Found, usage: Usage) -> None:
    if usage.progress is None and usage.checkpoint is None:
        return
    transaction.run(
        """
        UPDATE jobs SET productive = 1, progress = coalesce(?, progress),
            last_checkpoint = coalesce(?, last_checkpoint),
            -- The lease was lost and counted before it was known that something was stored.
            unproductive = CASE WHEN status = 'pending' THEN 0 ELSE unproductive END
        WHERE job_seq = ?
        """,
        (
            None if usage.progress is None else _encode(usage.progress).decode(),
            None if usage.checkpoint is None else _encode(usage.checkpoint).decode(),
            found.job_seq,
        ),
    )


def _spec(transaction: Transaction, job_seq: int) -> JobSpec:
    row = transaction.one("SELECT definition FROM job_specs WHERE job_seq = ?", (job_seq,))
    if row is None:
        raise NotFound("Job not found")
    return _decode_spec(row[0])


def _expecting(found: Found, transaction: Transaction) -> dict[str, object]:
    return {
        "job_seq": found.job_seq,
        "attempt": found.attempt,
        "expected": found.status,
        "wall": transaction.wall,
    }


def _changed_one(count: int) -> None:
    # The row was read in this very transaction, so anything else is a defect, not a race.
    if count != 1:
        raise RuntimeError("A job changed under its own transaction.")
