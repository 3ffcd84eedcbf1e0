"""`kelpie submit`: a command, or the jobs of a file, put into the queue."""

from __future__ import annotations

import asyncio
from typing import Any

import rich_click as click

from kelpie.cli.flags import PAIR, PLACE, pair, place, variable_pair
from kelpie.cli.job_file import checked, read_jobs
from kelpie.cli.render import Form, output_options, print_jobs
from kelpie.cli.session import connect
from kelpie.cli.text import tell
from kelpie.cli.wait import wait_for
from kelpie.config import client_config
from kelpie.contract import Job, JobSpec


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", metavar="[--] CMD [ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.option("-f", "--file", metavar="FILE", help="Jobs in JSON or TOML, one or many; - reads stdin.")
@click.option("-g", "--group", metavar="ID", help="Container group (default: as configured, or `default`).")
@click.option("--name", help="What to call the job.")
@click.option(
    "--env",
    type=variable_pair,
    metavar=PAIR,
    multiple=True,
    help="Environment; KEY alone passes on your own.",
)
@click.option("--priority", type=int, help="Higher goes first (default 0).")
@click.option("--max-failures", type=int, metavar="N", help="Failures that end the job (default 3).")
@click.option(
    "--heartbeat-interval", type=int, metavar="S", help="Seconds between signs of life (default 30)."
)
@click.option("--timeout", type=float, metavar="S", help="Most seconds one attempt may run.")
@click.option("--label", type=pair, metavar=PAIR, multiple=True, help="For finding the job again.")
@click.option("--run-at", metavar="TIME", help="Not before: 2026-01-31T18:00:00Z.")
@click.option("--depends-on", metavar="ID", multiple=True, help="Not before this job is completed.")
@click.option("--download", type=place, metavar=PLACE, multiple=True, help="Fetch before.")
@click.option("--during", type=place, metavar=PLACE, multiple=True, help="Store while it runs.")
@click.option("--after", type=place, metavar=PLACE, multiple=True, help="Store at the end.")
@click.option(
    "--checkpoint",
    type=place,
    metavar=PLACE,
    multiple=True,
    help="Fetch before and store while it runs, so that another machine goes on from there.",
)
@click.option("--compression/--no-compression", default=None, help="Store files gzipped.")
@click.option("--wait", is_flag=True, help="Wait until it has ended, as `kelpie wait` does.")
@output_options("name")
@click.pass_context
def submit(
    ctx: click.Context,
    /,
    *,
    command: tuple[str, ...],
    file: str | None,
    wait: bool,
    output: Form,
    quiet: bool,
    **flags: Any,
) -> None:
    """Submit a command, or the jobs of a file; prints the ids.

    Flags beside a file apply to each of its jobs.
    """
    if bool(command) == bool(file):
        raise click.UsageError("Give either a command (after --) or a file of jobs (-f).")
    found, batch = (
        read_jobs(file) if file else ([{"command": command[0], "arguments": list(command[1:])}], False)
    )
    flags["default_group"] = client_config({}).container_group_id
    specs = checked([_with_flags(job, flags) for job in found], batch=batch)
    jobs = asyncio.run(_submit(specs, batch=batch))
    form: Form = "name" if quiet else output
    print_jobs(jobs, form, one=not batch)
    if wait:
        ctx.exit(wait_for([job.id for job in jobs]))
    if not quiet:
        tell(_hint(jobs))


async def _submit(specs: list[JobSpec], *, batch: bool) -> list[Job]:
    async with connect() as client:
        return await client.submit_batch(specs) if batch else [await client.submit(specs[0])]


def _hint(jobs: list[Job]) -> str:
    if len(jobs) == 1:
        return f"Submitted. Watch it: kelpie wait {jobs[0].id}"
    return f"Submitted {len(jobs)} jobs. Watch them: kelpie jobs"


def _with_flags(job: Any, flags: dict[str, Any]) -> Any:
    """The job with what the flags say; anything but a table is left to the check."""
    if not isinstance(job, dict):
        return job
    given = {
        "container_group_id": flags["group"],
        "name": flags["name"],
        "priority": flags["priority"],
        "max_failures": flags["max_failures"],
        "heartbeat_interval": flags["heartbeat_interval"],
        "timeout_s": flags["timeout"],
        "run_at": flags["run_at"],
        "compression": flags["compression"],
    }
    merged = {"container_group_id": flags["default_group"], **job}
    merged.update((name, value) for name, value in given.items() if value is not None)
    _extend(merged, "environment", dict(flags["env"]))
    _extend(merged, "labels", dict(flags["label"]))
    # In a file, and in the API, the field is called `after`; the flag of that name stores files.
    there = merged.get("after") or []
    if flags["depends_on"] and isinstance(there, list):
        merged["after"] = [*there, *flags["depends_on"]]
    _add_sync(merged, flags)
    return merged


def _extend(job: dict[str, Any], field: str, more: dict[str, str]) -> None:
    before = job.get(field) or {}
    if more and isinstance(before, dict):
        job[field] = {**before, **more}


def _add_sync(job: dict[str, Any], flags: dict[str, Any]) -> None:
    # A checkpoint is fetched and stored: one rule in each direction.
    phases = {
        "before": [*flags["download"], *flags["checkpoint"]],
        "during": [*flags["during"], *flags["checkpoint"]],
        "after": [*flags["after"]],
    }
    rules = job.get("sync") or {}
    if not any(phases.values()) or not isinstance(rules, dict):
        return
    for phase, places in phases.items():
        direction = "download" if phase == "before" else "upload"
        added = [{**place, "direction": direction} for place in places]
        there = rules.get(phase) or []
        if added and isinstance(there, list):
            rules = {**rules, phase: [*there, *added]}
    job["sync"] = rules
