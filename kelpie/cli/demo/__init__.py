"""`kelpie demo`: watch a job survive the loss of its machine, with nothing faked."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import rich_click as click

from kelpie.cli.text import tell
from kelpie.errors import KelpieError

_KILLED_BY = 128  # as a shell reports it


@click.command()
@click.option("--keep", is_flag=True, help="Keep the demo's files and say where they are.")
def demo(*, keep: bool) -> None:
    """Run a job on two machines of this computer, kill the one that has it, and see the other go on.

    Starts a Kelpie server, an S3 server and two workers as real processes in a
    temporary directory, and leaves nothing running. Takes about 20 seconds and
    fails unless everything it tells was seen to be so.
    """
    from kelpie.cli.demo.stage import stage
    from kelpie.cli.demo.story import tell_story
    from kelpie.cli.retries import tell_retries

    tell_retries()
    # So that `finally` runs: a demo that is stopped cleans up as one that ended.
    signal.signal(signal.SIGTERM, _leave)
    folder = Path(tempfile.mkdtemp(prefix="kelpie-demo-"))
    try:
        with stage(folder) as opened:
            try:
                asyncio.run(tell_story(opened))
            except KelpieError:
                for process in opened.processes:
                    tell(f"--- {process.name} said last:\n{process.last_lines()}")
                raise
    finally:
        if keep:
            tell(f"The demo's files are in {folder}")
        else:
            _remove(folder)


def _leave(number: int, _frame: object) -> None:
    sys.exit(_KILLED_BY + number)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
