"""Attempts: opened by a claim, closed once with an outcome, reopened only when `lost` is taken back."""

from __future__ import annotations

from msgspec import Struct

from kelpie.contract import Attempt, Attempts, Usage
from kelpie.lifecycle import Outcome
from kelpie.store.clock import iso, iso_or_none
from kelpie.store.database import Database
from kelpie.store.transaction import Row, Transaction


class Ending(Struct, frozen=True, kw_only=True):
    """How an attempt ended and what it used."""

    outcome: Outcome
    reason: str | None = None
    detail: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    usage: Usage | None = None


def close(transaction: Transaction, job_seq: int, attempt: int, ending: Ending) -> None:
    """End an attempt; a `lost` one may be ended again by its own late report."""
    usage = ending.usage
    transaction.run(
        """
        UPDATE attempts SET ended = :ended, outcome = :outcome, reason = :reason, detail = :detail,
            exit_code = :exit_code, signal = :signal,
            bytes_in = :bytes_in, bytes_out = :bytes_out, compute_s = :compute_s,
            num_heartbeats = (SELECT num_heartbeats FROM jobs WHERE job_seq = :job_seq) - heartbeats_before
        WHERE job_seq = :job_seq AND attempt = :attempt AND (outcome IS NULL OR outcome = 'lost')
        """,
        {
            "job_seq": job_seq,
            "attempt": attempt,
            "ended": transaction.wall,
            "outcome": ending.outcome,
            "reason": ending.reason,
            "detail": ending.detail,
            "exit_code": ending.exit_code,
            "signal": ending.signal,
            "bytes_in": usage.bytes_in if usage else 0,
            "bytes_out": usage.bytes_out if usage else 0,
            "compute_s": usage.compute_s if usage else 0.0,
        },
    )
    if usage and usage.log_tail:
        transaction.run(
            "INSERT OR REPLACE INTO attempt_logs (job_seq, attempt, tail) VALUES (?, ?, ?)",
            (job_seq, attempt, usage.log_tail),
        )


def reopen(transaction: Transaction, job_seq: int, attempt: int) -> None:
    """Take `lost` back: the worker was late, and nobody claimed since (rule 3)."""
    transaction.run(
        """
        UPDATE attempts SET ended = NULL, outcome = NULL, reason = NULL, num_heartbeats = NULL
        WHERE job_seq = ? AND attempt = ? AND outcome = 'lost'
        """,
        (job_seq, attempt),
    )


def outcome_of(transaction: Transaction, job_seq: int, attempt: int, machine_id: str) -> Outcome | None:
    """How one machine's attempt ended; None while it lives or when there was none."""
    row = transaction.one(
        "SELECT outcome FROM attempts WHERE job_seq = ? AND attempt = ? AND machine_id = ?",
        (job_seq, attempt, machine_id),
    )
    return None if row is None or row[0] is None else Outcome(row[0])


def last_of_machine(
    transaction: Transaction, job_seq: int, machine_id: str
) -> tuple[Outcome | None, str | None] | None:
    """A machine's newest attempt at a job: how it ended and why."""
    row = transaction.one(
        """
        SELECT outcome, reason FROM attempts WHERE job_seq = ? AND machine_id = ?
        ORDER BY attempt DESC LIMIT 1
        """,
        (job_seq, machine_id),
    )
    return None if row is None else (None if row[0] is None else Outcome(row[0]), row[1])


async def attempts_of(database: Database, job_seq: int) -> Attempts:
    """Read every attempt of a job, oldest first."""
    rows = await database.all(
        """
        SELECT attempts.attempt, attempts.machine_id, attempts.started, attempts.ended, attempts.outcome,
            attempts.exit_code, attempts.signal, attempts.reason, attempts.detail,
            coalesce(attempts.num_heartbeats, jobs.num_heartbeats - attempts.heartbeats_before),
            attempts.bytes_in, attempts.bytes_out, attempts.compute_s, attempts.version, attempt_logs.tail
        FROM attempts
        JOIN jobs ON jobs.job_seq = attempts.job_seq
        LEFT JOIN attempt_logs
            ON attempt_logs.job_seq = attempts.job_seq AND attempt_logs.attempt = attempts.attempt
        WHERE attempts.job_seq = ? ORDER BY attempts.attempt
        """,
        (job_seq,),
    )
    return Attempts(attempts=[_attempt(row) for row in rows])


def _attempt(row: Row) -> Attempt:
    return Attempt(
        attempt=row[0], machine_id=row[1], started=iso(row[2]), ended=iso_or_none(row[3]),
        outcome=None if row[4] is None else Outcome(row[4]), exit_code=row[5], signal=row[6], reason=row[7],
        detail=row[8], num_heartbeats=row[9], bytes_in=row[10], bytes_out=row[11], compute_s=row[12],
        version=row[13], log_tail=row[14],
    )  # fmt: skip
