# ruff: noqa: SLF001 - what has no event is watched from inside
"""Stores and networks that fail: still right, or an error; never a false success."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kelpie.errors import TransferFailed
from kelpie.sync import S3, Fence, Rule, S3Bucket, Transfer, pull, push_after
from tests.sync.conftest import contents, until
from tests.sync.fault_proxy import FaultProxy

IMPATIENT = 0.2


async def test_a_missing_bucket_is_final_and_named(s3: S3, local: Path, transfer: Transfer) -> None:
    """On the way down, on the way up, for a directory and for a file."""
    (local / "a").touch()
    for kind in ("directory", "file"):
        for move in (pull, push_after):
            path = local if kind == "directory" else local / "a"
            rule = Rule(s3.bucket("nowhere"), "x", path, kind=kind)
            with pytest.raises(TransferFailed, match=r"nowhere.*does not exist") as failure:
                await move(rule, transfer)
            assert not failure.value.is_retryable


async def test_a_check_says_whether_the_bucket_can_be_used(s3: S3, bucket: S3Bucket) -> None:
    """`kelpie worker --check` asks this."""
    await bucket.check()
    with pytest.raises(TransferFailed, match="s3://nowhere/"):
        await s3.bucket("nowhere").check()


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("AWS_ACCESS_KEY_ID", "KELPIEUNKNOWNKEY0001", "AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", "AWS_SECRET_ACCESS_KEY"),
    ],
)
async def test_wrong_credentials_are_final_and_say_which(
    *, stored: Path, local: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    """Trying again would not help."""
    monkeypatch.setenv(variable, value)
    (local / "a").touch()
    async with S3() as s3:
        for move in (pull, push_after):
            with pytest.raises(TransferFailed, match=says) as failure:
                await move(Rule(s3.bucket(stored.name), "x/", local), Transfer())
            assert not failure.value.is_retryable


async def test_missing_credentials_are_a_clear_message(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to set."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with S3() as s3:
        with pytest.raises(TransferFailed, match="no AWS credentials found") as failure:
            await s3.bucket(stored.name).check()
    assert not failure.value.is_retryable


@pytest.mark.usefixtures("aws")
async def test_an_unreachable_endpoint_may_pass(local: Path) -> None:
    """It is tried until the patience is over, and the message names the endpoint."""
    async with S3(endpoint_url="http://127.0.0.1:9") as s3:
        with pytest.raises(TransferFailed, match=r"127\.0\.0\.1:9.*Gave up after") as failure:
            await pull(Rule(s3.bucket("any"), "x/", local), Transfer(patience_s=IMPATIENT, retry_wait_s=0.01))
    assert failure.value.is_retryable


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503, "code": "SlowDown"},
        {"status": 500, "after": True},
        {"status": 429, "code": "TooManyRequests"},
        {"cut": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [100, 12 << 20])
async def test_passing_faults_are_survived(
    *, stored: Path, local: Path, tmp_path: Path, faulty: FaultProxy, fault: dict[str, object], size: int
) -> None:
    """Every kind of request fails at first; the bytes are right in the end."""
    transfer = Transfer(part_bytes=5 << 20, patience_s=30, retry_wait_s=0.01)
    data = os.urandom(size)
    (local / "model.pt").write_bytes(data)
    async with S3(endpoint_url=faulty.url) as s3:
        for method in ("GET", "PUT", "HEAD", "POST"):
            faulty.on(
                method, times=2, **({"status": 500} if fault.get("cut") and method == "HEAD" else fault)
            )
        await push_after(Rule(s3.bucket(stored.name), "x/", local), transfer)
        await pull(Rule(s3.bucket(stored.name), "x/", tmp_path / "back"), transfer)

    assert (stored / "x/model.pt").read_bytes() == data
    assert (tmp_path / "back/model.pt").read_bytes() == data


async def test_corrupted_bytes_never_become_a_file(stored: Path, local: Path, faulty: FaultProxy) -> None:
    """What does not have the MD5 that the store names is fetched again, and refused in the end."""
    (stored / "x").mkdir()
    (stored / "x/a").write_bytes(b"data")
    async with S3(endpoint_url=faulty.url) as s3:
        rule = Rule(s3.bucket(stored.name), "x/a", local / "a", kind="file")
        faulty.on("GET", times=1, corrupt=True)
        await pull(rule, Transfer(retry_wait_s=0.01))
        assert (local / "a").read_bytes() == b"data"

        (local / "a").unlink()
        faulty.on("GET", times=100, corrupt=True)
        with pytest.raises(TransferFailed, match="another MD5"):
            await pull(rule, Transfer(retry_wait_s=0.01))
    assert contents(local) == {}


async def test_an_object_replaced_during_its_download_arrives_as_one_of_the_two(
    stored: Path, local: Path, faulty: FaultProxy
) -> None:
    """Ranges of two objects never become one file."""
    old, new = os.urandom(12 << 20), os.urandom(11 << 20)
    (stored / "model.pt").write_bytes(old)
    transfer = Transfer(part_bytes=5 << 20, memory_bytes=5 << 20, patience_s=30, retry_wait_s=0.3)
    faulty.on("GET", times=1, status=500, query="x-id=GetObject")
    async with S3(endpoint_url=faulty.url) as s3:
        async with asyncio.TaskGroup() as group:
            rule = Rule(s3.bucket(stored.name), "model.pt", local / "model.pt", kind="file")
            pulling = group.create_task(pull(rule, transfer))
            await until(lambda: transfer.bytes_in > 0)
            (stored / "model.pt").write_bytes(new)
        assert pulling.result().files == 1

    assert (local / "model.pt").read_bytes() in (old, new)


async def test_a_canceled_upload_is_aborted_in_the_store(
    stored: Path, local: Path, faulty: FaultProxy
) -> None:
    """Parts of it would cost money for ever."""
    (local / "model.pt").write_bytes(os.urandom(12 << 20))
    faulty.on("PUT", times=1, hold=True, query="partNumber=2")
    async with S3(endpoint_url=faulty.url) as s3:
        bucket = s3.bucket(stored.name)
        pushing = asyncio.create_task(push_after(Rule(bucket, "x/", local), Transfer(part_bytes=5 << 20)))
        await asyncio.wait_for(faulty.held.wait(), 20)
        pushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pushing
        left = await bucket._client.list_multipart_uploads(Bucket=stored.name)

    assert not left.get("Uploads")
    assert not (stored / "x/model.pt").exists()


async def test_a_shutting_fence_aborts_the_request_that_is_under_way(
    stored: Path, local: Path, faulty: FaultProxy
) -> None:
    """It is made again once the fence opens, and not before."""
    (local / "a").write_bytes(b"data")
    fence = Fence()
    faulty.on("PUT", times=1, hold=True)
    async with S3(endpoint_url=faulty.url) as s3:
        rule = Rule(s3.bucket(stored.name), "x/", local)
        pushing = asyncio.create_task(push_after(rule, Transfer(fence=fence)))
        await asyncio.wait_for(faulty.held.wait(), 20)
        fence.shut()
        await until(lambda: not fence._under_way)
        assert [method for method, _ in faulty.seen] == ["PUT"]
        fence.open()
        await pushing

    assert (stored / "x/a").read_bytes() == b"data"


async def test_a_lease_that_ran_out_unnoticed_holds_writes_back(
    bucket: S3Bucket, local: Path, stored: Path
) -> None:
    """After a suspend the question whether to write is asked before the timer that shuts the fence."""
    may_write = False
    fence = Fence(lambda: may_write)
    (local / "a").write_bytes(b"data")
    pushing = asyncio.create_task(push_after(Rule(bucket, "x/", local), Transfer(fence=fence)))
    await until(lambda: not fence._opened.is_set())
    assert not (stored / "x").exists()

    may_write = True
    fence.open()
    await pushing

    assert (stored / "x/a").exists()


async def test_a_full_disk_is_final_and_says_so(
    rule: Rule, stored: Path, transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question is asked before the first byte is fetched."""
    (stored / "run").mkdir()
    (stored / "run/a").write_bytes(b"data")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1}))
    with pytest.raises(TransferFailed, match="No space left") as failure:
        await pull(rule, transfer)
    assert not failure.value.is_retryable
    assert transfer.bytes_in == 0
