"""`kelpie wait`: follow jobs until they have ended; also the end of `kelpie submit --wait`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import rich_click as click

from kelpie.cli.exits import ExitCode
from kelpie.cli.render import Form, output_options, percent, print_jobs
from kelpie.cli.session import connect, resolve
from kelpie.cli.text import one_line, tell
from kelpie.cli.why import REASONS
from kelpie.contract import Job
from kelpie.lifecycle import FINAL, JobStatus

if TYPE_CHECKING:
    from kelpie.client import Client

_EVERY_S = 1.0
# A server that is restored from a backup or moved is away for minutes; a wait outlives that.
_PATIENCE_S = 600.0
# A failure is worse than a cancel, whatever their exit codes.
_WORST_FIRST = (
    (JobStatus.FAILED, ExitCode.FAILED),
    (JobStatus.CANCELED, ExitCode.CANCELED),
)


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--timeout", type=click.FloatRange(0), metavar="S", help="Stop waiting after S seconds: exit code 124."
)
@output_options(None)
@click.pass_context
def wait(
    ctx: click.Context, *, ids: tuple[str, ...], timeout: float | None, output: Form | None, quiet: bool
) -> None:
    """Wait until jobs have ended; every change is told on stderr.

    Exits with 0 when all completed, 1 when one failed, 7 when one was canceled,
    124 after the timeout. Ctrl-C stops the waiting, never the job.
    """
    ctx.exit(wait_for(ids, timeout, "name" if quiet else output))


def wait_for(ids: Sequence[str], timeout_s: float | None = None, form: Form | None = None) -> ExitCode:
    """Wait until all of these jobs have ended; the exit code that says how."""
    try:
        ended = asyncio.run(_follow(ids, timeout_s))
    except TimeoutError:
        tell(f"Not ended after {timeout_s:g} s; the jobs go on.")
        return ExitCode.TIMED_OUT
    except KeyboardInterrupt:
        tell(f"Stopped waiting; the jobs go on. To end them: kelpie cancel {' '.join(ids)}")
        return ExitCode.INTERRUPTED
    if form:
        print_jobs(ended, form, one=len(ended) == 1)
    states = {job.status for job in ended}
    return next((code for state, code in _WORST_FIRST if state in states), ExitCode.OK)


async def _follow(ids: Sequence[str], timeout_s: float | None) -> list[Job]:
    async with asyncio.timeout(timeout_s), connect(patience_s=_PATIENCE_S) as client:
        # Named twice is waited for once.
        seen: dict[str, Job | None] = {await resolve(client, text): None for text in ids}
        while True:
            if not await _look(client, seen):
                return [job for job in seen.values() if job is not None]
            await asyncio.sleep(_EVERY_S)


async def _look(client: Client, seen: dict[str, Job | None]) -> bool:
    """Read every job that had not ended, tell what changed; whether to look again."""
    for job_id, before in seen.items():
        if before is not None and before.status in FINAL:
            continue
        job = seen[job_id] = await client.job(job_id)
        if before is None or _state(job) != _state(before):
            tell(_state_line(job))
    return any(job is None or job.status not in FINAL for job in seen.values())


def _state(job: Job) -> tuple[str, ...]:
    if job.status == JobStatus.RUNNING:
        return (job.status, f"attempt {job.attempt} on {job.machine_id}", percent(job))
    if job.status == JobStatus.PENDING and job.num_failures:
        return (job.status, f"failed {job.num_failures} of {job.max_failures} times")
    return (job.status, REASONS.get(job.reason or "", job.reason or ""))


def _state_line(job: Job) -> str:
    clock = f"{datetime.now().astimezone():%H:%M:%S}"
    return one_line("  ".join(part for part in (clock, job.id, *_state(job)) if part))
