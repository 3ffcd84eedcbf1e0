"""The `kelpie` command: its list of subcommands, and the two that run for long.

This is the only module that wires rooms together. A subcommand that lives in
another module is listed from a small table and imported when it is run, so
that `kelpie --help` stays quick; the server and the worker are imported by the
commands that start them.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import rich_click as click
from click.exceptions import Abort, ClickException, Exit

from kelpie import __version__
from kelpie.cli.exits import report
from kelpie.cli.text import tell

RUN, JOBS, ADMIN = "Run", "Jobs", "Administer"

LAZY: tuple[tuple[str, str, str, str], ...] = (
    (RUN, "demo", "kelpie.cli.demo:demo", "Watch a job survive the loss of its machine, on this computer."),
    (JOBS, "submit", "kelpie.cli.submit:submit", "Submit a command, or the jobs of a file."),
    (JOBS, "jobs", "kelpie.cli.jobs:jobs", "List your jobs, newest first."),
    (JOBS, "show", "kelpie.cli.show:show", "Show a job, its attempts, and why it is where it is."),
    (JOBS, "explain", "kelpie.cli.explain:explain", "Say why a job is where it is."),
    (JOBS, "wait", "kelpie.cli.wait:wait", "Wait until jobs have ended."),
    (JOBS, "cancel", "kelpie.cli.jobs:cancel", "Cancel jobs."),
    (JOBS, "retry", "kelpie.cli.jobs:retry", "Retry jobs that failed or were canceled."),
    (JOBS, "groups", "kelpie.cli.fleet:groups", "List your container groups and their jobs by state."),
    (JOBS, "machines", "kelpie.cli.fleet:machines", "List the machines that poll, and what they hold."),
    (ADMIN, "admin", "kelpie.cli.admin:admin", "Look after the server's database: users and keys."),
)
"""Panel, name, where the command lives, and its line in `kelpie --help`."""


class LazyGroup(click.RichGroup):
    """A group that lists stubs and imports a command when it is run; the one place errors end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._homes: dict[str, str] = {}

    def add_lazy(self, name: str, home: str, summary: str, panel: str) -> None:
        """List `name` now; import it from `home`, written `module:attribute`, when it is run."""
        self._homes[name] = home
        self.add_command(click.RichCommand(name=name, help=summary, panel=panel))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order they were added, which is the order of use."""
        del ctx
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` names: the real one, not its stub."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in self._homes:
            module, _, attribute = self._homes[name].partition(":")
            command = getattr(import_module(module), attribute)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever it raises becomes a sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except (Exit, Abort, ClickException):
            raise
        except (Exception, KeyboardInterrupt) as error:
            # A reader that went away (`kelpie jobs | head`) is the base class's to end quietly.
            if ctx.params.get("traceback") or getattr(error, "errno", None) == errno.EPIPE:
                raise
            ctx.exit(report(error))


@click.option_panel("Options")
@click.command_panel(ADMIN)
@click.command_panel(JOBS)
@click.command_panel(RUN)
@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kelpie", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, help="Show where in Kelpie an error came from.")
def cli(*, traceback: bool) -> None:
    """Shepherd long jobs to completion on machines that vanish."""
    # `LazyGroup.invoke` reads the flag when something has gone wrong.
    del traceback


@cli.command(panel=RUN)
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", help="Port to listen on (default 8787).")
@click.option("--database", metavar="PATH", help="The SQLite file (default ./kelpie.db).")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (default ./kelpie.toml).")
@click.option("--check", is_flag=True, help="Only check the configuration.")
@click.pass_context
def serve(
    ctx: click.Context,
    *,
    host: str | None,
    port: str | None,
    database: str | None,
    config: Path | None,
    check: bool,
) -> None:
    """Run the coordinator: API, queue and database in one process."""
    from kelpie.config import server_config

    settings = server_config({"host": host, "port": port, "database": database}, file=config)
    if check:
        tell("configuration ok")
        return
    from kelpie.server.run import serve as run_server

    ctx.exit(run_server(settings))


@cli.command(panel=RUN)
@click.option("--api-url", help="The server (default http://127.0.0.1:8787).")
@click.option("--machine-id", help="What this machine is called (default: made once and kept).")
@click.option("--container-group-id", help="The container group whose jobs to run.")
@click.option("--state-file", metavar="PATH", help="What survives a restart (default ./kelpie-state.json).")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (default ./kelpie.toml).")
@click.pass_context
def worker(ctx: click.Context, /, *, config: Path | None, **flags: str | None) -> None:
    """Run jobs of one container group on this machine, one after another."""
    from kelpie.config import worker_config

    settings = worker_config(flags, file=config)
    import asyncio

    from kelpie.cli.retries import log_retries
    from kelpie.worker.agent import run as run_worker

    log_retries()
    # Plain asyncio, not uvloop: the worker relies on asyncio's child watcher for exit codes.
    ctx.exit(asyncio.run(run_worker(settings)))


for _panel, _name, _home, _summary in LAZY:
    cli.add_lazy(_name, _home, _summary, _panel)


def run() -> None:
    """Start `kelpie`: the console script."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows its code instead of ending the command.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    main: Callable[..., None] = cli.main
    main(prog_name="kelpie")
