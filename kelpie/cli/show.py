"""`kelpie show`: one job, every attempt at it, and why it is where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

import rich_click as click

from kelpie.cli.render import (
    STYLES,
    Form,
    as_json,
    cell,
    new_table,
    output_options,
    percent,
    print_lines,
    print_rich,
    title,
)
from kelpie.cli.session import connect, resolve
from kelpie.cli.text import count, log_lines, seconds_between, size, span, to_the_second
from kelpie.cli.why import how_it_ended, why
from kelpie.contract import Attempt, Job
from kelpie.errors import NotFound
from kelpie.lifecycle import JobStatus, Outcome

if TYPE_CHECKING:
    from rich.table import Table

    from kelpie.client import Client

_LOG_LINES = 10
_BAD_OUTCOMES = {Outcome.FAILED: "red", Outcome.LOST: "yellow", Outcome.INTERRUPTED: "yellow"}


@click.command()
@click.argument("job", metavar="ID")
@output_options("table")
def show(*, job: str, output: Form, quiet: bool) -> None:
    """Show a job, its attempts, and why it is where it is.

    ID is the job's id, or the first 4 or more characters of a recent one.
    """
    found, attempts, explained = asyncio.run(_fetch(job, is_told=output == "table" and not quiet))
    both = {"job": found, "attempts": attempts}
    form: Form = "name" if quiet else output
    if form == "table":
        _print_story(found, attempts, explained or why(found, attempts))
    elif form == "name":
        print_lines([found.id])
    else:
        print_lines([as_json(both, indent=2 if form == "json" else 0)])


async def _fetch(text: str, *, is_told: bool) -> tuple[Job, list[Attempt], str]:
    async with connect() as client:
        job_id = await resolve(client, text)
        job = await client.job(job_id)
        attempts = (await client.attempts(job_id)).attempts
        explained = await _explained(client, job) if is_told and job.status == JobStatus.PENDING else ""
        return job, attempts, explained


async def _explained(client: Client, job: Job) -> str:
    """What the server says; nothing when it is older than the route, and `why` has to guess."""
    try:
        found = await client.explain(job.id)
    except NotFound:
        return ""
    return found.summary if found.status == JobStatus.PENDING else ""


def _print_story(job: Job, attempts: list[Attempt], because: str) -> None:
    print_rich(_facts(job, because))
    if attempts:
        print_lines([""])
        print_rich(_attempts_table(attempts))
    last = attempts[-1] if attempts else None
    if last is not None and last.outcome == Outcome.FAILED and last.log_tail:
        print_lines(["", f"The last lines of attempt {last.attempt}:"])
        print_lines(f"  {line}" for line in log_lines(last.log_tail, _LOG_LINES))


def _facts(job: Job, because: str) -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(cell("Job"), cell(job.id))
    table.add_row(cell("Status"), cell(job.status, STYLES[job.status]))
    table.add_row(cell("Why"), cell(because, wrap=True))
    for label, value in _details(job):
        table.add_row(cell(label), cell(value, wrap=True))
    return table


def _details(job: Job) -> Iterator[tuple[str, str]]:
    if job.name:
        yield "Name", job.name
    yield "Command", title(_unnamed(job))
    yield "Group", job.container_group_id
    yield "Created", f"{job.created} ({span(seconds_between(job.created))} ago)"
    if job.labels:
        yield "Labels", ", ".join(f"{name}={value}" for name, value in sorted(job.labels.items()))
    if job.num_failures or job.num_interruptions:
        yield (
            "Troubles",
            f"{count(job.num_failures, 'failure')}, {count(job.num_interruptions, 'interruption')}",
        )
    if job.progress:
        yield "Progress", _progress(job)
    if job.last_checkpoint:
        yield "Checkpoint", _checkpoint(job)


def _unnamed(job: Job) -> Job:
    from msgspec.structs import replace

    return replace(job, name=None)


def _progress(job: Job) -> str:
    said = job.progress
    if said is None:
        return ""
    steps = "" if said.step is None else f"step {said.step}" + (f" of {said.total}" if said.total else "")
    return ", ".join(part for part in (percent(job), steps, said.message or "") if part)


def _checkpoint(job: Job) -> str:
    stored = job.last_checkpoint
    if stored is None:
        return ""
    held = f"{count(stored.files, 'upload')}, {size(stored.bytes)}"
    return f"{stored.stored} ({span(seconds_between(stored.stored))} ago), {held}"


def _attempts_table(attempts: list[Attempt]) -> Table:
    columns = ("ATTEMPT", "MACHINE", "STARTED", "LASTED", "OUTCOME", "HOW", "HEARTBEATS")
    table = new_table(*columns, flexible=("MACHINE", "HOW"))
    for attempt in attempts:
        outcome = attempt.outcome or "running"
        table.add_row(
            cell(attempt.attempt),
            cell(attempt.machine_id),
            cell(to_the_second(attempt.started)),
            cell(span(seconds_between(attempt.started, attempt.ended))),
            cell(outcome, _BAD_OUTCOMES.get(attempt.outcome, "") if attempt.outcome else STYLES["running"]),
            cell(how_it_ended(attempt), wrap=True),
            cell(attempt.num_heartbeats),
        )
    return table
