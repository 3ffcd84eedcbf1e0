"""Why a job is where it is, in one sentence a person can act on. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kelpie.cli.text import moment, seconds_between, span
from kelpie.contract import Attempt, Job
from kelpie.lifecycle import NO_BAN, JobStatus, Outcome, Reason, lease_s, retry_delay_s

_FEW = 3

REASONS: dict[str, str] = {
    Reason.SPAWN: "the command could not be started",
    Reason.TIMEOUT: "it ran past its time limit",
    Reason.DOWNLOAD: "its data could not be fetched, or its directories not used",
    Reason.UPLOAD: "its results could not be stored",
    Reason.RESTORE: "its checkpoint could not be restored",
    Reason.DEPENDENCY: "a job it depends on failed",
    Reason.NO_PROGRESS: "it was interrupted too often without progress",
    Reason.EXIT: "the command failed",
    Reason.SIGNAL: "the command was killed",
    Reason.NOTICE: "the machine was told that it goes away",
    Reason.DRAIN: "the worker was asked to stop",
    Reason.WORKER_FAULT: "the worker had a fault of its own",
    Reason.DIRECTORY_BUSY: "a directory it needs was in use",
}


def why(job: Job, attempts: list[Attempt], now: datetime | None = None) -> str:
    """One sentence: what the job waits for, who runs it, or how it ended."""
    now = now or datetime.now(UTC)
    last = attempts[-1] if attempts else None
    if job.status == JobStatus.RUNNING:
        return _running(job)
    if job.status == JobStatus.PENDING:
        return _pending(job, attempts, now)
    if job.status == JobStatus.FAILED:
        return _failed(job, last)
    if job.status == JobStatus.CANCELED:
        return f"canceled at {job.canceled}" if job.canceled else "canceled"
    return f"completed at {job.completed}" + (f" by attempt {job.attempt}" if job.attempt else "")


def how_it_ended(attempt: Attempt) -> str:
    """How an attempt ended, as far as is known: exit code, signal, reason."""
    if attempt.signal:
        ending = f"signal {attempt.signal}"
    elif attempt.exit_code is not None:
        ending = f"exit code {attempt.exit_code}"
    else:
        ending = REASONS.get(attempt.reason or "", attempt.reason or "")
    if attempt.outcome == Outcome.LOST and not ending:
        ending = "the machine fell silent"
    return ", ".join(part for part in (ending, attempt.detail or "") if part)


def _running(job: Job) -> str:
    sign = f", last heartbeat {span(seconds_between(job.heartbeat))} ago" if job.heartbeat else ""
    grace = f" (it is given to another machine after {span(lease_s(job.heartbeat_interval))} of silence)"
    return f"attempt {job.attempt} runs on {job.machine_id}{sign}{grace}"


def _pending(job: Job, attempts: list[Attempt], now: datetime) -> str:
    last = attempts[-1] if attempts else None
    waits = f"waits for a worker of the container group {job.container_group_id}"
    if job.run_at and moment(job.run_at) > now:
        return f"does not start before {job.run_at}"
    if last is None or last.outcome is None:
        return waits
    ending = how_it_ended(last)
    because = f" ({ending})" if ending else ""
    if last.outcome == Outcome.FAILED:
        again = f"failed {job.num_failures} of {job.max_failures} times{because}"
        return f"{again}; {_next_try(job, last, now) or waits}{_banned(attempts)}"
    return f"attempt {last.attempt} was {last.outcome}{because}, which is no failure; {waits}"


def _banned(attempts: list[Attempt]) -> str:
    """Which machines failed the job and so are not offered it while another could take it."""
    failed = [one for one in attempts if one.outcome == Outcome.FAILED and one.reason not in NO_BAN]
    machines = list(dict.fromkeys(one.machine_id for one in failed))
    if not machines:
        return ""
    they = " and ".join(machines) if len(machines) <= _FEW else f"{len(machines)} machines"
    return f" other than {they}, who failed it (they get it again after 10 minutes without another machine)"


def _next_try(job: Job, last: Attempt, now: datetime) -> str:
    """When a failed job may be claimed again; empty once that time has come."""
    if not last.ended:
        return ""
    delay = retry_delay_s(job.num_failures, job.retry_delay_s, job.retry_delay_max_s)
    due = moment(last.ended) + timedelta(seconds=delay)
    # The server adds jitter and does not show it, hence "about".
    return f"next try not before about {due:%Y-%m-%dT%H:%M:%SZ}" if due > now else ""


def _failed(job: Job, last: Attempt | None) -> str:
    if job.reason in REASONS and (last is None or last.reason != job.reason):
        return REASONS[job.reason]
    ending = how_it_ended(last) if last else ""
    return f"failed {job.num_failures} of {job.max_failures} times" + (
        f", the last: {ending}" if ending else ""
    )
