"""The small files of a worker: progress, state, and who this machine is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kelpie.config import WorkerConfig
from kelpie.contract import Progress
from kelpie.errors import ConfigError
from kelpie.worker.machine.plain import identity
from kelpie.worker.progress import MAX_BYTES, ProgressFile
from kelpie.worker.state_file import StateFile


@pytest.mark.parametrize(
    ("content", "progress"),
    [
        ("0.5", Progress(progress=0.5)),
        ("1\n", Progress(progress=1.0)),
        ("0", Progress(progress=0.0)),
        ('{"progress": 0.4, "step": 400, "total": 1000, "message": "warm"}',
         Progress(progress=0.4, step=400, total=1000, message="warm")),
        ('{"step": 3}', Progress(step=3)),
    ],
)  # fmt: skip
def test_a_number_or_an_object_is_progress(tmp_path: Path, content: str, progress: Progress) -> None:
    """The script writes what is handiest."""
    file = ProgressFile(tmp_path / "progress")
    file.path.write_text(content)
    assert file.read() == progress


@pytest.mark.parametrize(
    "content",
    ["2", "-0.1", "nan", "half", "[1]", "{", '{"progress": 7}', "\0", "0." + "0" * MAX_BYTES,
     '{"step": 1' + "0" * 100 + "}", '{"x": ' + "[" * 2000],
)  # fmt: skip
def test_nonsense_is_ignored_and_the_last_good_progress_stays(tmp_path: Path, content: str) -> None:
    """A bad file never costs a heartbeat."""
    file = ProgressFile(tmp_path / "progress")
    file.path.write_text("0.25")
    assert file.read() == Progress(progress=0.25)
    file.path.write_text(content)
    assert file.read() == Progress(progress=0.25)


def test_a_fifo_or_directory_in_its_place_holds_nothing_up(tmp_path: Path) -> None:
    """A heartbeat never waits for a writer."""
    os.mkfifo(tmp_path / "fifo")
    assert ProgressFile(tmp_path / "fifo").read() is None
    ProgressFile(tmp_path).clear()
    assert ProgressFile(tmp_path).read() is None
    assert ProgressFile(tmp_path / "missing").read() is None


async def test_the_state_file_has_the_originals_shape(tmp_path: Path) -> None:
    """Scripts read it."""
    with StateFile(tmp_path / "deep" / "state.json") as state:
        await state.started("job-1", 3)
        await state.exited("job-1", 0)
        await state.ended("job-1", "completed")
        written = json.loads(state.path.read_text())
    job = written["jobs"][0]
    assert written["start"].endswith("Z")
    assert (job["id"], job["status"], job["exitCode"]) == ("job-1", "completed", 0)
    assert set(job) >= {"start", "activeUploads", "activeDownloads", "exitTime", "end", "attempt"}
    assert '\n  "jobs"' in state.path.read_text()


def test_a_state_file_has_one_worker(tmp_path: Path) -> None:
    """The refusal says which setting to change."""
    with (
        StateFile(tmp_path / "state.json"),
        pytest.raises(ConfigError, match="KELPIE_STATE_FILE"),
        StateFile(tmp_path / "state.json"),
    ):
        pass
    with StateFile(tmp_path / "state.json"):
        pass


def test_a_state_file_that_cannot_be_written_is_refused_at_start(tmp_path: Path) -> None:
    """Not after the first job."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="KELPIE_STATE_FILE"), StateFile(tmp_path / "file" / "state.json"):
        pass


def test_a_machine_keeps_its_name(tmp_path: Path) -> None:
    """Bans and history follow it over restarts; a configured name wins."""
    state = tmp_path / "state.json"
    first = identity(WorkerConfig(state_file=state))
    assert first.startswith(f"{os.uname().nodename}-")
    assert identity(WorkerConfig(state_file=state)) == first
    assert identity(WorkerConfig(state_file=state, machine_id="named")) == "named"
    (tmp_path / "kelpie-machine-id").write_text("")
    assert identity(WorkerConfig(state_file=state))
