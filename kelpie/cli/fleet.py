"""`kelpie groups` and `kelpie machines`: the queues, and who works on them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import rich_click as click

from kelpie.cli.render import Form, as_json, cell, new_table, output_options, print_lines, print_rich
from kelpie.cli.session import connect
from kelpie.cli.text import seconds_between, span, tell
from kelpie.contract import DEFAULT_PAGE, MAX_PAGE
from kelpie.lifecycle import JobStatus
from kelpie.overview import ContainerGroup, Machine


@click.command()
@click.option("--page-size", type=click.IntRange(1, MAX_PAGE), default=DEFAULT_PAGE, show_default=True)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@output_options("table")
def groups(*, page_size: int, page: int, output: Form, quiet: bool) -> None:
    """List your container groups: their jobs by state, and who polls them."""
    found = asyncio.run(_groups(page_size, page))
    form: Form = "name" if quiet else output
    if form == "table":
        _print_groups(found)
    else:
        _print(found, [one.container_group_id for one in found], form)
    _tell_more(len(found), page_size, page, "container groups")


@click.command()
@click.option("--page-size", type=click.IntRange(1, MAX_PAGE), default=DEFAULT_PAGE, show_default=True)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@output_options("table")
def machines(*, page_size: int, page: int, output: Form, quiet: bool) -> None:
    """List the machines that poll your container groups, and what they hold."""
    found = asyncio.run(_machines(page_size, page))
    form: Form = "name" if quiet else output
    if form == "table":
        _print_machines(found)
    else:
        _print(found, [one.machine_id for one in found], form)
    _tell_more(len(found), page_size, page, "machines")


async def _groups(page_size: int, page: int) -> list[ContainerGroup]:
    async with connect() as client:
        return (await client.container_groups(page_size=page_size, page=page)).container_groups


async def _machines(page_size: int, page: int) -> list[Machine]:
    async with connect() as client:
        return (await client.machines(page_size=page_size, page=page)).machines


def _print_groups(found: list[ContainerGroup]) -> None:
    table = new_table(
        "GROUP", *(str(status).upper() for status in JobStatus), "OLDEST", "WORKERS", "POLLED",
        flexible=("GROUP",),
    )  # fmt: skip
    for group in found:
        waits = "" if group.oldest_pending_s is None else span(group.oldest_pending_s)
        table.add_row(
            cell(group.container_group_id),
            *(cell(group.jobs.get(status, 0)) for status in JobStatus),
            cell(waits),
            cell(group.num_workers),
            cell(f"{span(seconds_between(group.workers[0].last_polled))} ago" if group.workers else "never"),
        )
    print_rich(table)


def _print_machines(found: list[Machine]) -> None:
    table = new_table(
        "MACHINE", "GROUPS", "SEEN", "VERSION", "HOLDS", "BANS", flexible=("MACHINE", "GROUPS", "HOLDS")
    )
    for machine in found:
        table.add_row(
            cell(machine.machine_id),
            cell(", ".join(machine.container_groups)),
            cell(f"{span(seconds_between(machine.last_seen))} ago"),
            cell(machine.version),
            cell(", ".join(job.job_id for job in machine.jobs), wrap=True),
            cell(machine.num_bans or ""),
        )
    print_rich(table)


def _print(found: Sequence[msgspec.Struct], names: list[str], form: Form) -> None:
    if form == "name":
        print_lines(names)
    elif form == "jsonl":
        print_lines(as_json(one) for one in found)
    else:
        print_lines([as_json(list[Any](found), indent=2)])


def _tell_more(count: int, page_size: int, page: int, what: str) -> None:
    if not count:
        tell(f"No {what}.")
    elif count == page_size:
        tell(f"There may be more: --page {page + 1}.")
