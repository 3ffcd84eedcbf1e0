"""`kelpie demo`: the README's first command."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

PATIENCE_S = 120.0


def ours(marker: str) -> list[str]:
    """Name the processes that work below the directory `marker`."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            cwd = (process / "cwd").readlink()
        except OSError:
            continue
        if process.name.isdigit() and marker in str(cwd):
            found.append(process.name)
    return found


def contents(folder: Path) -> list[Path]:
    """List a directory."""
    return list(folder.iterdir())


async def test_the_demo_shows_a_job_survive_its_machine_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Every sentence it prints was seen to be so, or it would have failed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kelpie", "demo", stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)

    story = out.decode()
    assert process.returncode == 0
    assert "KILLING machine-" in story
    assert "goes on from step" in story
    assert "attempt 1 on machine-" in story
    assert "s3://demo/run-1/output/result.json" in story
    assert ours(str(tmp_path)) == []
    assert contents(tmp_path) == []


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
async def test_a_demo_that_is_stopped_leaves_nothing_behind(tmp_path: Path, signal_name: str) -> None:
    """Ctrl-C in the middle is no reason to leave servers running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kelpie", "demo", stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    while b"took it" not in await asyncio.wait_for(process.stdout.readline(), PATIENCE_S):
        pass
    process.send_signal(getattr(signal, signal_name))
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)

    assert process.returncode not in {0, None}
    assert b"Traceback" not in err
    assert ours(str(tmp_path)) == []
    assert contents(tmp_path) == []
