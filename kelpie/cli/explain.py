"""`kelpie explain`: why a job is (still) where it is, in the server's words."""

from __future__ import annotations

import asyncio

import rich_click as click

from kelpie.cli.render import Form, as_json, output_options, print_lines
from kelpie.cli.session import connect, resolve
from kelpie.overview import Explanation


@click.command()
@click.argument("job", metavar="ID")
@output_options("table")
def explain(*, job: str, output: Form, quiet: bool) -> None:
    """Say why a job is where it is.

    ID is the job's id, or the first 4 or more characters of a recent one.
    """
    found = asyncio.run(_fetch(job))
    form: Form = "name" if quiet else output
    if form == "table":
        print_lines([f"{found.job_id} is {found.status}:", *(f"  {why.message}" for why in found.reasons)])
    elif form == "name":
        print_lines(why.kind for why in found.reasons)
    else:
        print_lines([as_json(found, indent=2 if form == "json" else 0)])


async def _fetch(text: str) -> Explanation:
    async with connect() as client:
        return await client.explain(await resolve(client, text))
