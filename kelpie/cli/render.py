"""Data on stdout: tables for people, JSON and ids for programs."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import rich_click as click

from kelpie.cli.text import clean, one_line, seconds_between, span
from kelpie.contract import Job
from kelpie.lifecycle import JobStatus

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

Form = Literal["table", "json", "jsonl", "name"]

STYLES: dict[str, str] = {
    JobStatus.PENDING: "yellow",
    JobStatus.RUNNING: "cyan",
    JobStatus.COMPLETED: "green",
    JobStatus.FAILED: "red",
    JobStatus.CANCELED: "bright_black",
}

_PIPE_WIDTH = 10_000
_SHORT_ID = 8
_NAME_WIDTH = 32
# JSON escapes C0 itself; a terminal obeys DEL and C1 as well.
_RAW_CONTROL = re.compile("[\x7f-\x9f]")

_Command = TypeVar("_Command", bound=Callable[..., Any])


def output_options(default: Form | None) -> Callable[[_Command], _Command]:
    """Add `-o` and `-q` to a command, as the arguments `output` and `quiet`."""
    forms = click.Choice(["table", "json", "jsonl", "name"])
    shown = (
        f"How to print (default {default})." if default else "Print the jobs in the end (default: nothing)."
    )

    def decorate(command: _Command) -> _Command:
        command = click.option("-q", "--quiet", is_flag=True, help="Print ids only: as -o name.")(command)
        return click.option("-o", "--output", type=forms, default=default, help=shown)(command)

    return decorate


def print_jobs(jobs: Sequence[Job], form: Form, *, one: bool = False) -> None:
    """Print jobs; with `one`, JSON is the job itself and not an array."""
    if form == "table":
        print_rich(_jobs_table(jobs))
    elif form == "name":
        print_lines(job.id for job in jobs)
    elif form == "jsonl":
        print_lines(as_json(job) for job in jobs)
    else:
        print_lines([as_json(jobs[0] if one else list(jobs), indent=2)])


def print_records(records: Sequence[msgspec.Struct], form: Form) -> None:
    """Print users, keys and the like: every field is a column, `id` is their name."""
    if form == "table":
        names = records[0].__struct_fields__ if records else ("id",)
        table = new_table(*(name.upper() for name in names), flexible=names)
        for record in records:
            table.add_row(*(cell(getattr(record, name), wrap=True) for name in names))
        print_rich(table)
    elif form == "name":
        print_lines(str(getattr(record, "id", "")) for record in records)
    elif form == "jsonl":
        print_lines(as_json(record) for record in records)
    else:
        print_lines([as_json(list(records), indent=2)])


def print_lines(lines: Iterable[str]) -> None:
    """Print each line, made harmless."""
    for line in lines:
        click.echo(clean(line))


def print_rich(*parts: RenderableType) -> None:
    """Print tables and texts: fitted to a terminal, in full into a pipe."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False)
    for part in parts:
        console.print(part)


def as_json(value: Any, *, indent: int = 0) -> str:
    """`value` as JSON that a terminal can show safely."""
    text = msgspec.json.encode(value)
    # msgspec reads a negative indent as "no white space" and 0 as "one line with spaces".
    formatted = msgspec.json.format(text, indent=indent or -1).decode()
    return _RAW_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", formatted)


def new_table(*columns: str, flexible: Sequence[str]) -> Table:
    """A table without lines, as `ls` would print it; the `flexible` columns give way on a narrow terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        # rich shrinks the columns that may wrap before it touches any other.
        table.add_column(column, no_wrap=column not in flexible, overflow="fold")
    return table


def cell(text: object, style: str = "", *, wrap: bool = False) -> Text:
    """One table cell: harmless, never read as markup, cut off where it does not fit unless it may `wrap`."""
    from rich.text import Text

    shown = "" if text is None else one_line(str(text))
    return Text(shown, style=style) if wrap else Text(shown, style=style, no_wrap=True, overflow="ellipsis")


def title(job: Job) -> str:
    """What a person calls the job: its name, or else its command."""
    return job.name or shlex.join([job.command, *job.arguments])


def percent(job: Job) -> str:
    """How far the job's script says it is, or nothing."""
    if job.progress is None or job.progress.progress is None:
        return ""
    return f"{job.progress.progress:.0%}"


def _jobs_table(jobs: Sequence[Job]) -> Table:
    columns = ("ID", "NAME", "GROUP", "STATUS", "ATTEMPT", "PROGRESS", "AGE", "MACHINE")
    table = new_table(*columns, flexible=("NAME", "GROUP", "MACHINE"))
    # A terminal is narrow, a pipe wants what it can pass on: whole ids and names.
    terminal = sys.stdout.isatty()
    width = _id_width([job.id for job in jobs]) if terminal else None
    for job in jobs:
        name = one_line(title(job))
        table.add_row(
            cell(job.id[:width]),
            cell(f"{name[: _NAME_WIDTH - 1]}…" if terminal and len(name) > _NAME_WIDTH else name),
            cell(job.container_group_id),
            cell(job.status, STYLES[job.status]),
            cell(job.attempt or ""),
            cell(percent(job)),
            cell(span(seconds_between(job.created))),
            cell(job.machine_id),
        )
    return table


def _id_width(ids: Sequence[str]) -> int:
    """The fewest characters, at least 8, that tell these ids apart."""
    width = _SHORT_ID
    longest = max(map(len, ids), default=0)
    while width < longest and len({job_id[:width] for job_id in ids}) < len(ids):
        width += 1
    return width
