"""`kelpie jobs`, `kelpie cancel` and `kelpie retry`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

import rich_click as click

from kelpie.cli.exits import ExitCode, report
from kelpie.cli.flags import PAIR, pair
from kelpie.cli.render import Form, as_json, output_options, print_jobs, print_lines
from kelpie.cli.session import CAREFUL_PREFIX, connect, resolve
from kelpie.cli.text import tell
from kelpie.contract import DEFAULT_PAGE, MAX_PAGE, JobPage
from kelpie.errors import KelpieError
from kelpie.lifecycle import JobStatus

if TYPE_CHECKING:
    from kelpie.client import Client


@click.command()
@click.option(
    "--status", type=click.Choice([str(status) for status in JobStatus]), help="Only jobs in this state."
)
@click.option("--group", "-g", metavar="ID", help="Only jobs of this container group.")
@click.option("--name", help="Only jobs of this name.")
@click.option("--label", type=pair, metavar=PAIR, multiple=True, help="Only jobs with this label.")
@click.option("--page-size", type=click.IntRange(1, MAX_PAGE), default=DEFAULT_PAGE, show_default=True)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option("--asc", is_flag=True, help="Oldest first.")
@output_options("table")
def jobs(
    *,
    status: str | None,
    group: str | None,
    name: str | None,
    label: tuple[tuple[str, str], ...],
    page_size: int,
    page: int,
    asc: bool,
    output: Form,
    quiet: bool,
) -> None:
    """List your jobs, newest first."""
    filters: dict[str, str | int | list[str] | None] = {
        "status": status,
        "container_group_id": group,
        "name": name,
        "label": [f"{key}={value}" for key, value in label],
        "page_size": page_size,
        "page": page,
        "asc": asc,
    }
    found = asyncio.run(_list(filters))
    form: Form = "name" if quiet else output
    print_jobs(found.jobs, form)
    if form != "table":
        return
    if not found.jobs:
        tell("No jobs.")
    elif found.count == page_size:
        tell(f"There may be more: --page {page + 1}.")


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@output_options("table")
@click.pass_context
def cancel(ctx: click.Context, *, ids: tuple[str, ...], output: Form, quiet: bool) -> None:
    """Cancel jobs: what runs is stopped, what waits is not started.

    Each ID is a job's id, or the first 8 or more characters of a recent one.
    """
    ctx.exit(asyncio.run(_each(ids, _CANCEL, "name" if quiet else output)))


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@output_options("table")
@click.pass_context
def retry(ctx: click.Context, *, ids: tuple[str, ...], output: Form, quiet: bool) -> None:
    """Retry jobs that failed or were canceled: they wait for a worker again, with counters at zero.

    Each ID is a job's id, or the first 8 or more characters of a recent one.
    """
    ctx.exit(asyncio.run(_each(ids, _RETRY, "name" if quiet else output)))


async def _list(filters: dict[str, str | int | list[str] | None]) -> JobPage:
    async with connect() as client:
        return await client.jobs(**filters)


async def _each(ids: tuple[str, ...], verb: _Verb, form: Form) -> ExitCode:
    done: list[str] = []
    worst = ExitCode.OK
    async with connect() as client:
        for text in ids:
            try:
                job_id = await resolve(client, text, shortest=CAREFUL_PREFIX)
                await verb.do(client, job_id)
            except KelpieError as error:
                # One job that is refused must not keep the others from it.
                tell(f"{text} was not {verb.done}:")
                code = report(error)
                worst = worst or code
            else:
                done.append(job_id)
    _print_done(done, verb, form)
    return worst


def _print_done(ids: list[str], verb: _Verb, form: Form) -> None:
    answers = [{"id": job_id, "status": verb.status} for job_id in ids]
    if form == "json":
        print_lines([as_json(answers, indent=2)])
    elif form == "jsonl":
        print_lines(as_json(answer) for answer in answers)
    else:
        print_lines(ids if form == "name" else [f"{job_id} {verb.done}" for job_id in ids])


class _Verb(NamedTuple):
    do: Callable[[Client, str], Awaitable[object]]
    done: str
    status: JobStatus


_CANCEL = _Verb(lambda client, job_id: client.cancel(job_id), "canceled", JobStatus.CANCELED)
_RETRY = _Verb(lambda client, job_id: client.retry(job_id), "retried", JobStatus.PENDING)
