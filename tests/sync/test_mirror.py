# ruff: noqa: SLF001 - what has no event is watched from inside
"""What a mirror stores while a job runs, and at its end."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from kelpie.errors import TransferFailed
from kelpie.sync import S3, Fence, Mirror, Rule, Transfer, take_baseline
from tests.sync.conftest import contents, until
from tests.sync.fault_proxy import FaultProxy


@asynccontextmanager
async def running(mirror: Mirror) -> AsyncIterator[asyncio.Task[None]]:
    """Run a mirror for the length of a block."""
    task = asyncio.create_task(mirror.run(), name="mirror under test")
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, TransferFailed):
            await task


async def a_mirror(rule: Rule, transfer: Transfer, **timing: float) -> Mirror:
    """Make a mirror that is quick about it."""
    quick = {"scan_interval_s": 0.2, "delete_wait_s": 0.1, "stability_check_ms": 20} | timing
    return Mirror(rule, transfer, await take_baseline(rule), **quick)  # type: ignore[arg-type]


def holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


async def test_a_new_file_goes_up(rule: Rule, stored: Path, transfer: Transfer) -> None:
    """New directories, empty files and dot files included."""
    mirror = await a_mirror(rule, transfer)
    async with running(mirror):
        (rule.local_path / "deep/er").mkdir(parents=True)
        (rule.local_path / "deep/er/model.pt").write_bytes(b"weights")
        (rule.local_path / ".empty").touch()
        await until(lambda: mirror.uploads == 2)

    assert holds(stored / "run/deep/er/model.pt", b"weights")
    assert holds(stored / "run/.empty", b"")
    assert mirror.last_stored_at is not None


async def test_an_overwrite_goes_up(rule: Rule, stored: Path, transfer: Transfer) -> None:
    """The object has what the file has in the end."""
    path = rule.local_path / "model.pt"
    path.write_bytes(b"one")
    mirror = await a_mirror(rule, transfer)
    async with running(mirror):
        path.write_bytes(b"two")
        await until(lambda: holds(stored / "run/model.pt", b"two"))
        path.write_bytes(b"three")
        await until(lambda: holds(stored / "run/model.pt", b"three"))


async def test_an_atomic_rename_goes_up_at_once(rule: Rule, stored: Path, transfer: Transfer) -> None:
    """A file that was written under another name is whole: nothing is waited for but the event."""
    mirror = await a_mirror(rule, transfer, stability_check_ms=60_000, max_wait_ms=600_000)
    temporary = rule.local_path / "model.pt.tmp"
    temporary.write_bytes(b"old")
    async with running(mirror):
        temporary.write_bytes(b"weights")
        await until(lambda: "model.pt.tmp" in mirror._settling)
        temporary.rename(rule.local_path / "model.pt")
        await until(lambda: holds(stored / "run/model.pt", b"weights"))

    assert not (stored / "run/model.pt.tmp").exists()


async def test_what_was_there_before_is_not_uploaded_again(
    rule: Rule, stored: Path, transfer: Transfer
) -> None:
    """Neither while the job runs nor at the end; unless it changed."""
    (rule.local_path / "old.pt").write_bytes(b"downloaded")
    mirror = await a_mirror(rule, transfer)
    async with running(mirror):
        (rule.local_path / "new.pt").write_bytes(b"new")
        await until(lambda: mirror.uploads == 1)
    flushed = await mirror.flush(killed_at=None)

    assert not (stored / "run/old.pt").exists()
    assert flushed.files == 0


async def test_a_deletion_is_mirrored(rule: Rule, stored: Path, transfer: Transfer) -> None:
    """Of a file this mirror stored, and of one that was there at the start."""
    (stored / "run").mkdir()
    for name in ("old.pt", "kept.pt"):
        (stored / "run" / name).write_bytes(b"old")
        (rule.local_path / name).write_bytes(b"old")
    mirror = await a_mirror(rule, transfer)
    async with running(mirror):
        (rule.local_path / "new.pt").write_bytes(b"new")
        await until(lambda: holds(stored / "run/new.pt", b"new"))
        (rule.local_path / "new.pt").unlink()
        (rule.local_path / "old.pt").unlink()
        await until(lambda: not (stored / "run/new.pt").exists() and not (stored / "run/old.pt").exists())

    assert (stored / "run/kept.pt").exists()


async def test_an_object_that_the_mirror_does_not_know_is_never_deleted(
    rule: Rule, stored: Path, transfer: Transfer
) -> None:
    """What others put under the prefix is theirs."""
    (stored / "run").mkdir()
    (stored / "run/other.pt").write_bytes(b"theirs")
    mirror = await a_mirror(rule, transfer)
    (rule.local_path / "other.pt").write_bytes(b"brief")
    (rule.local_path / "other.pt").unlink()

    await mirror.flush(killed_at=None)

    assert holds(stored / "run/other.pt", b"theirs")


async def test_the_removal_of_a_directory_is_not_mirrored(
    rule: Rule, stored: Path, transfer: Transfer
) -> None:
    """Neither of one below nor of the whole, neither at once nor at the end."""
    for name in ("a", "sub/b"):
        for root in (rule.local_path, stored / "run"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"good")
    mirror = await a_mirror(rule, transfer)
    async with running(mirror):
        shutil.rmtree(rule.local_path / "sub")
        (rule.local_path / "marker").touch()
        await until(lambda: mirror.uploads == 1)
        await until(lambda: "sub/b" not in mirror._ledger.stored)
        shutil.rmtree(rule.local_path)
        rule.local_path.mkdir()
        (rule.local_path / "second").touch()
        await until((stored / "run/second").exists)
    await mirror.flush(killed_at=None)

    assert holds(stored / "run/a", b"good")
    assert holds(stored / "run/sub/b", b"good")


async def test_a_directory_that_was_removed_and_made_again_is_not_emptied_in_the_bucket(
    rule: Rule, stored: Path, transfer: Transfer
) -> None:
    """The checkpoint in the bucket is all there is until a new one was written."""
    for name in ("sub/a", "sub/b"):
        for root in (rule.local_path, stored / "run"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"good")
    mirror = await a_mirror(rule, transfer)
    async with running(mirror):
        shutil.rmtree(rule.local_path / "sub")
        (rule.local_path / "sub").mkdir()
        await until(lambda: not mirror._ledger.stored)
    await mirror.flush(killed_at=None)

    assert holds(stored / "run/sub/a", b"good")
    assert holds(stored / "run/sub/b", b"good")


async def test_a_renamed_directory_moves_in_the_bucket(rule: Rule, stored: Path, transfer: Transfer) -> None:
    """The same files under new keys: the old ones go once the new ones are stored."""
    (rule.local_path / "tmp-1").mkdir()
    mirror = await a_mirror(rule, transfer)
    async with running(mirror):
        (rule.local_path / "tmp-1/model.pt").write_bytes(b"weights")
        await until((stored / "run/tmp-1/model.pt").exists)
        (rule.local_path / "tmp-1").rename(rule.local_path / "step-1")
        await until(lambda: not (stored / "run/tmp-1/model.pt").exists())

    assert holds(stored / "run/step-1/model.pt", b"weights")


async def test_a_deletion_waits_for_the_uploads_before_it(
    faulty: FaultProxy, stored: Path, local: Path, transfer: Transfer
) -> None:
    """The old checkpoint stays in the bucket until the new one is there."""
    (stored / "run").mkdir()
    for root in (stored / "run", local):
        (root / "old.pt").write_bytes(b"old")
    faulty.on("PUT", times=1, hold=True)
    async with S3(endpoint_url=faulty.url) as s3:
        mirror = await a_mirror(Rule(s3.bucket(stored.name), "run/", local), transfer)
        async with running(mirror):
            (local / "new.pt").write_bytes(b"new")
            await asyncio.wait_for(faulty.held.wait(), 20)
            (local / "old.pt").unlink()
            await until(lambda: "old.pt" in mirror._ledger.missing)
            (local / "later.pt").write_bytes(b"later")
            await until((stored / "run/later.pt").exists)

        assert (stored / "run/old.pt").exists()
        await mirror.flush(killed_at=None)

    assert holds(stored / "run/new.pt", b"new")
    assert not (stored / "run/old.pt").exists()


async def test_a_file_that_never_rests_goes_up_all_the_same(
    rule: Rule, stored: Path, transfer: Transfer
) -> None:
    """A log that is written all the time is stored as it was at one moment."""
    mirror = await a_mirror(rule, transfer, max_wait_ms=200)
    lines = 0
    with (rule.local_path / "train.log").open("ab", buffering=0) as log:
        async with running(mirror):
            while mirror.uploads < 3:
                log.write(b"%09d\n" % lines)
                lines += 1
                await asyncio.sleep(0.002)

    data = (stored / "run/train.log").read_bytes()
    assert data == b"".join(b"%09d\n" % number for number in range(len(data) // 10))


async def test_a_file_that_changes_during_its_upload_ends_up_whole(
    faulty: FaultProxy, stored: Path, local: Path, transfer: Transfer
) -> None:
    """The change makes it dirty again."""
    faulty.on("PUT", times=1, status=500, after=True)
    async with S3(endpoint_url=faulty.url) as s3:
        mirror = await a_mirror(Rule(s3.bucket(stored.name), "run/", local), transfer)
        async with running(mirror):
            (local / "model.pt").write_bytes(b"one" * 1000)
            await until(lambda: any(method == "PUT" for method, _ in faulty.seen))
            (local / "model.pt").write_bytes(b"two" * 2000)
            await until(lambda: holds(stored / "run/model.pt", b"two" * 2000))


async def test_a_file_that_changes_between_its_parts_is_not_stored_as_if_it_were_whole(
    faulty: FaultProxy, stored: Path, local: Path
) -> None:
    """Parts of two states never become one object."""
    transfer = Transfer(part_bytes=5 << 20, memory_bytes=5 << 20, patience_s=20, retry_wait_s=0.01)
    one, two = os.urandom(12 << 20), os.urandom(12 << 20)
    faulty.on("PUT", times=1, hold=True, query="partNumber=1")
    async with S3(endpoint_url=faulty.url) as s3:
        fence = transfer.fence
        mirror = await a_mirror(Rule(s3.bucket(stored.name), "run/", local), transfer)
        async with running(mirror):
            (local / "model.pt").write_bytes(one)
            await asyncio.wait_for(faulty.held.wait(), 20)
            (local / "model.pt").write_bytes(two)
            fence.shut()
            fence.open()
            await until(lambda: mirror.uploads == 1)

        assert holds(stored / "run/model.pt", two)
        assert sum("uploadId" in path for method, path in faulty.seen if method == "DELETE") == 1


async def test_the_end_stores_all_that_differs(rule: Rule, stored: Path, transfer: Transfer) -> None:
    """Without any wait for rest: the command has ended."""
    (rule.local_path / "old.pt").write_bytes(b"old")
    mirror = await a_mirror(rule, transfer)
    (rule.local_path / "old.pt").unlink()
    (stored / "run").mkdir()
    (stored / "run/old.pt").write_bytes(b"old")
    (rule.local_path / "last.pt").write_bytes(b"last")

    flushed = await mirror.flush(killed_at=None)

    assert (flushed.files, flushed.bytes) == (1, 4)
    assert holds(stored / "run/last.pt", b"last")
    assert not (stored / "run/old.pt").exists()


async def test_after_a_kill_a_fresh_file_does_not_replace_a_good_object(
    rule: Rule, stored: Path, transfer: Transfer
) -> None:
    """It may be half-written; what is new or older goes up, and nothing is deleted."""
    (rule.local_path / "gone.pt").write_bytes(b"good")
    mirror = await a_mirror(rule, transfer)
    (stored / "run").mkdir()
    for name in ("model.pt", "older.pt", "gone.pt"):
        (stored / "run" / name).write_bytes(b"good")
    killed_at = time.time()
    for name, age_s in (("model.pt", 0.5), ("older.pt", 10), ("new.pt", 0.5)):
        (rule.local_path / name).write_bytes(b"fresh")
        os.utime(rule.local_path / name, (killed_at - age_s, killed_at - age_s))
    (rule.local_path / "gone.pt").unlink()

    await mirror.flush(killed_at=killed_at)

    assert holds(stored / "run/model.pt", b"good")
    assert holds(stored / "run/gone.pt", b"good")
    assert holds(stored / "run/older.pt", b"fresh")
    assert holds(stored / "run/new.pt", b"fresh")


async def test_nothing_is_written_or_deleted_while_the_fence_is_shut(rule: Rule, stored: Path) -> None:
    """Once it is open again everything is made up for."""
    fence = Fence()
    (rule.local_path / "old.pt").write_bytes(b"old")
    (stored / "run").mkdir()
    (stored / "run/old.pt").write_bytes(b"old")
    mirror = await a_mirror(rule, Transfer(fence=fence))
    fence.shut()
    async with running(mirror):
        (rule.local_path / "new.pt").write_bytes(b"new")
        (rule.local_path / "old.pt").unlink()
        await until(lambda: "new.pt" in mirror._busy)
        await until(lambda: "old.pt" in mirror._ledger.missing)
        assert sorted(path.name for path in (stored / "run").iterdir()) == ["old.pt"]
        fence.open()
        await until(lambda: [path.name for path in (stored / "run").iterdir()] == ["new.pt"])


async def test_a_final_failure_ends_the_mirror(s3: S3, local: Path, transfer: Transfer) -> None:
    """`run` raises what went wrong, not a group of exceptions."""
    mirror = await a_mirror(Rule(s3.bucket("no-such-bucket"), "run/", local), transfer)
    async with running(mirror) as task:
        (local / "model.pt").write_bytes(b"x")
        with pytest.raises(TransferFailed, match="no-such-bucket"):
            await asyncio.wait_for(asyncio.shield(task), 20)


async def test_a_file_rule_mirrors_one_file(rule: Rule, stored: Path, transfer: Transfer) -> None:
    """Its neighbours are left alone."""
    one = Rule(rule.bucket, "state.json", rule.local_path / "state.json", kind="file")
    mirror = await a_mirror(one, transfer)
    async with running(mirror):
        (rule.local_path / "other.json").write_bytes(b"other")
        (rule.local_path / "state.json").write_bytes(b"{}")
        await until(lambda: mirror.uploads == 1)
    await mirror.flush(killed_at=None)

    assert contents(stored) == {"state.json": b"{}"}


async def test_scans_alone_find_what_events_do_not_tell(
    rule: Rule, stored: Path, transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network file systems send no events."""

    async def no_events(*_: object, **__: object) -> AsyncIterator[set[str]]:
        await asyncio.Event().wait()
        yield set()

    monkeypatch.setattr("kelpie.sync.mirror.hints", no_events)
    mirror = await a_mirror(rule, transfer)
    async with running(mirror):
        (rule.local_path / "model.pt").write_bytes(b"x")
        await until(lambda: holds(stored / "run/model.pt", b"x"))
