"""`kelpie jobs` and `kelpie cancel`."""

from __future__ import annotations

import asyncio

import rich_click as click

from kelpie.cli.exits import ExitCode, report
from kelpie.cli.render import Form, as_json, output_options, print_jobs, print_lines
from kelpie.cli.session import CAREFUL_PREFIX, connect, resolve
from kelpie.cli.text import tell
from kelpie.contract import DEFAULT_PAGE, MAX_PAGE, JobPage
from kelpie.errors import KelpieError
from kelpie.lifecycle import JobStatus


@click.command()
@click.option(
    "--status", type=click.Choice([str(status) for status in JobStatus]), help="Only jobs in this state."
)
@click.option("--group", "-g", metavar="ID", help="Only jobs of this container group.")
@click.option("--page-size", type=click.IntRange(1, MAX_PAGE), default=DEFAULT_PAGE, show_default=True)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option("--asc", is_flag=True, help="Oldest first.")
@output_options("table")
def jobs(
    *,
    status: str | None,
    group: str | None,
    page_size: int,
    page: int,
    asc: bool,
    output: Form,
    quiet: bool,
) -> None:
    """List your jobs, newest first."""
    filters = {
        "status": status,
        "container_group_id": group,
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
    ctx.exit(asyncio.run(_cancel(ids, "name" if quiet else output)))


async def _list(filters: dict[str, str | int | None]) -> JobPage:
    async with connect() as client:
        return await client.jobs(**filters)


async def _cancel(ids: tuple[str, ...], form: Form) -> ExitCode:
    canceled: list[str] = []
    worst = ExitCode.OK
    async with connect() as client:
        for text in ids:
            try:
                job_id = await resolve(client, text, shortest=CAREFUL_PREFIX)
                await client.cancel(job_id)
            except KelpieError as error:
                # One job that has ended already must not keep the others running.
                worst = worst or _refused(text, error)
            else:
                canceled.append(job_id)
    _print_canceled(canceled, form)
    return worst


def _refused(text: str, error: KelpieError) -> ExitCode:
    tell(f"{text} was not canceled:")
    return report(error)


def _print_canceled(ids: list[str], form: Form) -> None:
    answers = [{"id": job_id, "status": JobStatus.CANCELED} for job_id in ids]
    if form == "json":
        print_lines([as_json(answers, indent=2)])
    elif form == "jsonl":
        print_lines(as_json(answer) for answer in answers)
    else:
        print_lines(ids if form == "name" else [f"{job_id} canceled" for job_id in ids])
