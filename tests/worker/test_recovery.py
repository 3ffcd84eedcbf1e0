"""A worker that starts where another one was killed: what it kills, empties, gives back, and leaves alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from kelpie.worker.locks import Locks
from kelpie.worker.remains import Origin, kill_remains, mark_of, origin_of
from kelpie.worker.state_file import StateFile
from tests.s3_server import S3Server
from tests.worker.scripted import (
    JOB_ID,
    Coordinator,
    Worker,
    eventually,
    has_text,
    is_alive,
    pid_in,
    python_job,
    working,
)

SECOND_ID = "00000002-0000-4000-8000-000000000000"

# Leaves a child in its own session, one without its environment, and one in another session without any.
FAMILY = """
import os, subprocess, time
def start(name, **how):
    pid = subprocess.Popen(["sleep", "600"], **how).pid
    open(name + ".new", "w").write(str(pid)); os.rename(name + ".new", name)
start("near")
start("bare", env={})
start("far", start_new_session=True)
os.makedirs("data/deep", exist_ok=True)
open("data/deep/left", "w").write("over")
open("ready", "w").write("1")
time.sleep(600)
"""
LOOK = """
import os
found = sorted(os.path.join(folder, name) for folder, _, names in os.walk('data') for name in names)
open('seen', 'w').write(repr(found))
"""


def syncing(home: Path) -> dict[str, Any]:
    rule = {"bucket": "data", "prefix": "p/", "local_path": str(home / "data"), "direction": "upload"}
    return {"during": [rule]}


async def killed(worker: Worker) -> None:
    """Kill the worker alone, once its command runs and has been noted."""
    await eventually(lambda: has_text(worker.home / "ready"))
    await eventually(lambda: "child" in (worker.home / "kelpie-state.json").read_text())
    worker.process.kill()
    await worker.ended()


def left(home: Path) -> list[int]:
    return [pid_in(home / name) for name in ("near", "bare", "far")]


async def test_what_a_killed_worker_left_is_killed_emptied_and_given_back(
    coordinator: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """The next job sees an empty directory, nobody computes beside it, and the first job need not wait."""
    s3_server.create_bucket("data")
    coordinator.submit(python_job(FAMILY, sync=syncing(tmp_path), heartbeat_interval=60, attempt=4))
    async with working(coordinator.url, tmp_path, **s3_server.env()) as worker:
        await killed(worker)
    coordinator.submit(python_job(LOOK, id=SECOND_ID, sync=syncing(tmp_path)))
    async with working(coordinator.url, tmp_path, **s3_server.env()) as worker:
        await eventually(lambda: len(coordinator.reports) == 2)
        assert not worker.said("not_empty")
    assert not [pid for pid in left(tmp_path) if is_alive(pid)]
    assert (tmp_path / "seen").read_text() == "[]"
    kind, report = coordinator.reports[0]
    assert (kind, report["attempt"], report["machine_id"]) == ("interrupted", 4, "machine-1")
    assert report["reason"] == "worker-fault"
    assert coordinator.reports[1][0] == "completed"


async def test_what_was_there_before_kelpie_survives_a_recovery(
    coordinator: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """Also beside what the job put into the same directory; nothing behind a link is touched."""
    s3_server.create_bucket("data")
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "mine").write_text("precious")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    script = f"import os; os.symlink({str(tmp_path / 'outside')!r}, 'data/link')\n{FAMILY}"
    coordinator.submit(python_job(script, sync=syncing(tmp_path)))
    async with working(coordinator.url, tmp_path, **s3_server.env()) as worker:
        await killed(worker)
    async with working(coordinator.url, tmp_path, **s3_server.env()):
        await eventually(lambda: len(coordinator.claims) == 2)
    kept = [str(path.relative_to(tmp_path)) for path in (tmp_path / "data").rglob("*") if not path.is_dir()]
    assert kept == ["data/deep/mine"]
    assert (tmp_path / "outside" / "precious").exists()


async def test_a_recovery_that_is_refused_or_unanswered_does_not_keep_the_worker_from_working(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """The lease may have run out long ago, or the server may be away: claims go on, and it is done once."""
    coordinator.submit(python_job(FAMILY))
    async with working(coordinator.url, tmp_path) as worker:
        await killed(worker)
    coordinator.failing["interrupted"] = 503
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: len(coordinator.claims) == 2)
        assert worker.said("not_given_back")
        assert await worker.leave() == 0
    state = json.loads((tmp_path / "kelpie-state.json").read_text())
    assert [(job["status"], "end" in job) for job in state["jobs"]] == [("interrupted", True)]
    coordinator.reports.clear()
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: len(coordinator.claims) == 3)
        assert not worker.said("recovering")
    assert not coordinator.reports


async def test_an_attempt_that_is_another_machines_by_now_is_no_trouble(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """The server's answer to a lost lease is taken quietly, and once."""
    coordinator.submit(python_job(FAMILY))
    async with working(coordinator.url, tmp_path) as worker:
        await killed(worker)
    coordinator.lose("running")
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: len(coordinator.claims) == 2)
        assert not worker.said("not_given_back")
    assert len(coordinator.reports) == 1


def noted(home: Path, *directories: dict[str, Any], **fields: Any) -> None:
    """Write the state file of a worker that died."""
    job = {"id": JOB_ID, "status": "running", "attempt": 1, "directories": list(directories), **fields}
    (home / "kelpie-state.json").write_text(json.dumps({"start": "2026-01-01T00:00:00.000Z", "jobs": [job]}))


def directory(path: Path, found: list[str] | None = None) -> dict[str, Any]:
    return {"path": str(path), "kind": "directory", "found": [] if found is None else found}


async def test_a_job_that_had_ended_but_was_not_cleaned_up_after_is_emptied_and_not_given_back(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """A worker may die between its report and the last file it removes."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "left").touch()
    noted(tmp_path, directory(tmp_path / "data"), end="2026-01-01T00:00:00.000Z")
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: coordinator.claims)
    assert not list((tmp_path / "data").iterdir())
    assert not coordinator.reports


async def test_a_recovery_refuses_what_a_job_may_not_name_either(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """The job can write the state file: that must not let it empty what it may not name."""
    for name in ("outside", "large"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").touch()
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    noted(
        tmp_path,
        directory(tmp_path),
        directory(tmp_path / "link"),
        directory(Path("/etc")),
        directory(tmp_path / "missing"),
        {**directory(tmp_path / "large"), "found": None},
    )
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: coordinator.claims)
        refused = [entry["path"] for entry in worker.log if entry["event"] == "not_emptied"]
    assert refused == [str(tmp_path), str(tmp_path / "link"), "/etc", str(tmp_path / "large")]
    assert (tmp_path / "outside" / "precious").exists()
    assert (tmp_path / "large" / "precious").exists()
    assert not (tmp_path / "missing").exists()


async def test_a_directory_that_another_worker_uses_by_now_is_left_to_it(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """What is in there may be the other worker's."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "theirs").touch()
    noted(tmp_path, directory(tmp_path / "data"))
    locks = Locks()
    locks.take([tmp_path / "data"], [])
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: coordinator.claims)
    locks.release()
    assert (tmp_path / "data" / "theirs").exists()


@pytest.mark.parametrize(
    ("content", "warning"),
    [
        ('{"start": "2026-01-01T00:00:00.000Z", "jobs": [{"id": "job", "sta', "state_file_not_understood"),
        ("", "state_file_not_understood"),
        ("[]", "state_file_not_understood"),
        ('{"jobs": [null]}', "state_file_not_understood"),
        ("\0\xff", "state_file_not_understood"),
        ('{"start": "x", "jobs": [{"id": "job", "status": "running", "start": "x"}]}', "job_not_recovered"),
        ('{"jobs": [{"id": "job", "attempt": 1, "child": {"pid": 0}}]}', "job_not_recovered"),
    ],
    ids=["cut-off", "empty", "list", "null", "binary", "originals", "no-process"],
)
async def test_a_state_file_that_says_nothing_is_no_error(
    coordinator: Coordinator, tmp_path: Path, content: str, warning: str
) -> None:
    """Damaged, or the original worker's: one warning, and the work begins."""
    (tmp_path / "kelpie-state.json").write_text(content)
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: coordinator.claims)
        assert [entry["event"] for entry in worker.log if entry["level"] == "warning"] == [warning]
    assert not coordinator.reports


async def test_a_worker_killed_during_its_recovery_leaves_it_to_the_next(tmp_path: Path) -> None:
    """What is unfinished stays in the file until it has been seen to."""
    noted(tmp_path, directory(tmp_path / "\udcff"), child={"pid": 7, "startTicks": 1, "world": "w"})
    for _ in range(2):
        with StateFile(tmp_path / "kelpie-state.json") as state:
            assert [job.id for job in state.unfinished] == [JOB_ID]
            assert state.unfinished[0].directories[0].path == str(tmp_path / "\udcff")
            assert state.unfinished[0].child == Origin(pid=7, start_ticks=1, world="w")
    with StateFile(tmp_path / "kelpie-state.json") as state:
        await state.recovered()
    with StateFile(tmp_path / "kelpie-state.json") as state:
        assert not state.unfinished


async def test_a_session_that_only_has_the_same_number_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are given out again: another start, another boot or another container is somebody else."""
    stranger = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    origin = origin_of(stranger.pid)
    assert origin is not None
    mark = mark_of(JOB_ID, 1, Path("/state"))
    for other in (
        Origin(pid=origin.pid, start_ticks=origin.start_ticks - 1, world=origin.world),
        Origin(pid=origin.pid, start_ticks=origin.start_ticks, world="another boot"),
        None,
    ):
        assert await kill_remains(other, mark) == 0
    monkeypatch.setattr(os, "getsid", lambda _: origin.pid)
    assert await kill_remains(origin, mark) == 0
    monkeypatch.undo()
    assert is_alive(stranger.pid)
    assert await kill_remains(origin, mark) == 1
    assert await stranger.wait() == -signal.SIGKILL


async def test_a_process_of_another_workers_attempt_is_spared(tmp_path: Path) -> None:
    """The same job and attempt number may be two workers' where the server numbers none."""
    marked = {**os.environ, **mark_of(JOB_ID, 0, tmp_path / "theirs.json")}
    stranger = await asyncio.create_subprocess_exec("sleep", "600", env=marked)
    await eventually(lambda: Path(f"/proc/{stranger.pid}/comm").read_text() == "sleep\n")
    assert await kill_remains(None, mark_of(JOB_ID, 0, tmp_path / "mine.json")) == 0
    assert is_alive(stranger.pid)
    assert await kill_remains(None, mark_of(JOB_ID, 0, tmp_path / "theirs.json")) == 1
    assert await stranger.wait() == -signal.SIGKILL
