"""A job's directories: refused, made, locked, emptied."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest

from kelpie.config import WorkerConfig
from kelpie.worker.home import Found
from kelpie.worker.locks import DirectoryBusy, Locks
from kelpie.worker.plan import Pairing, Plan
from kelpie.worker.refusals import DirectoryRefused, resolve
from kelpie.worker.workspace import Workspace


def config(tmp_path: Path) -> WorkerConfig:
    return WorkerConfig(state_file=tmp_path / "state" / "kelpie-state.json")


def workspace(
    *paths: Path, found: Found | None = None, kind: Literal["directory", "file"] = "directory"
) -> Workspace:
    pairings = tuple(Pairing(bucket="b", prefix="p/", local_path=path, kind=kind) for path in paths)
    return Workspace(Plan(during=pairings), {} if found is None else found)


SYSTEM = [
    "/",
    "/etc",
    "/etc/ssl",
    "/usr/lib/python3",
    "/bin",
    "/proc/self",
    "/dev",
    "/dev/sda",
    "/home",
    "/tmp",
]


@pytest.mark.parametrize("path", [*SYSTEM, "", "~nobody/../../etc", "a/../../b", "nul\0"])
def test_paths_that_belong_to_the_system_are_refused(path: str, tmp_path: Path) -> None:
    """Filling or emptying them would harm the machine."""
    with pytest.raises(DirectoryRefused, match="refused"):
        resolve(path, "directory", config(tmp_path))


@pytest.mark.parametrize(
    "path", ["/checkpoint", "/workspace", "/mnt/data", "/dev/shm/job", "/opt/app/out", "relative"]
)
def test_volumes_and_ordinary_directories_are_allowed(path: str, tmp_path: Path) -> None:
    """A mounted `/checkpoint` is normal."""
    assert resolve(path, "directory", config(tmp_path)).is_absolute()


def test_home_working_directory_and_the_workers_own_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by another name either."""
    (tmp_path / "home").mkdir()
    (tmp_path / "cwd").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")
    for path in (
        tmp_path / "home",
        tmp_path / "link",
        tmp_path / "cwd",
        Path(),
        tmp_path,
        tmp_path / "state",
    ):
        with pytest.raises(DirectoryRefused):
            resolve(str(path), "directory", config(tmp_path))


def test_a_link_to_a_system_directory_is_seen_through(tmp_path: Path) -> None:
    """The real path counts."""
    (tmp_path / "innocent").symlink_to("/etc")
    with pytest.raises(DirectoryRefused, match="/etc"):
        resolve(str(tmp_path / "innocent" / "ssl"), "directory", config(tmp_path))


def test_every_directory_exists_afterwards_and_a_files_parent_too(tmp_path: Path) -> None:
    """The script need not make them."""
    for job in (workspace(tmp_path / "a" / "b"), workspace(tmp_path / "c" / "model.bin", kind="file")):
        job.open()
        job.close()
    assert (tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "c").is_dir()
    assert not (tmp_path / "c" / "model.bin").exists()


def test_what_a_job_left_is_removed_but_not_its_directories_nor_what_links_point_to(tmp_path: Path) -> None:
    """Contents only, never through links."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    job = workspace(tmp_path / "job")
    job.open()
    (tmp_path / "job" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "job" / "deep" / "er" / "file").touch()
    (tmp_path / "job" / "link").symlink_to(outside)
    os.mkfifo(tmp_path / "job" / "fifo")
    job.empty()
    job.close()
    assert not list((tmp_path / "job").iterdir())
    assert (outside / "precious").exists()


def test_what_was_there_before_kelpie_is_left_as_it_is(tmp_path: Path) -> None:
    """Nobody loses a directory by naming it; the next job does not see the last one's files."""
    found: Found = {}
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "mine").write_text("precious")
    for name in ("first", "second"):
        job = workspace(tmp_path / "job", found=found)
        job.open()
        (tmp_path / "job" / name).touch()
        job.empty()
        job.close()
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["mine"]


def test_a_rule_of_one_file_removes_that_file_only(tmp_path: Path) -> None:
    """Its directory was not named."""
    (tmp_path / "other").touch()
    job = workspace(tmp_path / "model.bin", kind="file")
    job.open()
    (tmp_path / "model.bin").touch()
    job.empty()
    job.close()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_workspace_that_was_busy_empties_nothing(tmp_path: Path) -> None:
    """What is in there is the other worker's."""
    holder = workspace(tmp_path / "job")
    holder.open()
    (tmp_path / "job" / "theirs").touch()
    late = workspace(tmp_path / "job")
    with pytest.raises(DirectoryBusy):
        late.open()
    late.empty()
    late.close()
    assert (tmp_path / "job" / "theirs").exists()
    holder.close()
    next_one = workspace(tmp_path / "job")
    next_one.open()
    next_one.close()


@pytest.mark.parametrize(
    ("held", "wanted", "is_busy"),
    [("a", "a", True), ("a", "a/b", True), ("a/b", "a", True), ("a/b", "a/c", False), ("a", "ab", False)],
)
def test_overlapping_directories_exclude_each_other(
    tmp_path: Path, held: str, wanted: str, is_busy: bool
) -> None:
    """Emptying `/data` would empty `/data/x`."""
    for name in (held, wanted):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    mine, theirs = Locks(), Locks()
    mine.take([tmp_path / held], [])
    if is_busy:
        with pytest.raises(DirectoryBusy):
            theirs.take([tmp_path / wanted], [])
    else:
        theirs.take([tmp_path / wanted], [])
    mine.release()
    theirs.release()


def test_one_job_may_name_nested_directories_and_the_same_one_twice(tmp_path: Path) -> None:
    """A job does not stand in its own way."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    locks, others = Locks(), Locks()
    locks.take([tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a"], [tmp_path / "a" / "file"] * 2)
    with pytest.raises(DirectoryBusy):
        others.take([tmp_path / "a" / "b"], [])
    locks.release()
    others.take([tmp_path / "a" / "b"], [])
    others.release()


def test_one_file_has_one_user(tmp_path: Path) -> None:
    """Also one that does not exist yet."""
    mine, theirs = Locks(), Locks()
    mine.take([], [tmp_path / "model.bin"])
    with pytest.raises(DirectoryBusy):
        theirs.take([], [tmp_path / "model.bin"])
    with pytest.raises(DirectoryBusy):
        theirs.take([tmp_path], [])
    theirs.take([], [tmp_path / "other.bin"])
    mine.release()
    theirs.release()
