# ruff: noqa: SLF001 - what has no event is watched from inside
"""Whole directories up and down."""

from __future__ import annotations

import gzip
import os
import socket
from pathlib import Path

import pytest

from kelpie.errors import TransferFailed
from kelpie.sync import Rule, S3Bucket, Transfer, pull, push_after
from tests.sync.conftest import contents

NAMES = ["plain.txt", "with space.txt", "ünïcode/日本/файл.bin", ".dot/.file", "a+b&c=d%20#?.json", "empty"]


def write(root: Path, relative: str, data: bytes = b"") -> Path:
    path = root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


async def test_what_goes_up_comes_down_byte_for_byte(
    bucket: S3Bucket, local: Path, tmp_path: Path, transfer: Transfer
) -> None:
    """Names with spaces, other scripts and dots, empty files and folders in folders included."""
    for name in NAMES:
        write(local, name, b"" if name == "empty" else name.encode() * 100)

    pushed = await push_after(Rule(bucket, "out/", local), transfer)
    pulled = await pull(Rule(bucket, "out/", tmp_path / "back"), transfer)

    assert contents(tmp_path / "back") == contents(local)
    assert pushed.files == pulled.files == len(NAMES)
    assert pushed.bytes == pulled.bytes == transfer.bytes_in == transfer.bytes_out


async def test_a_key_is_the_prefix_and_the_relative_path(
    rule: Rule, stored: Path, transfer: Transfer
) -> None:
    """Nothing is put between them."""
    write(rule.local_path, "a/b.txt", b"x")

    await push_after(rule, transfer)

    assert contents(stored) == {"run/a/b.txt": b"x"}


async def test_only_what_the_pattern_finds_is_moved(
    bucket: S3Bucket, local: Path, stored: Path, tmp_path: Path, transfer: Transfer
) -> None:
    """A pattern is searched in the relative path; on the way down in the whole key, too."""
    for name in ("keep/1.pt", "keep/1.txt", "drop/2.pt"):
        write(local, name, b"x")

    await push_after(Rule(bucket, "i/", local, pattern=r"^keep/(?<step>\d+)\.pt$"), transfer)
    by_key = await pull(Rule(bucket, "i/", tmp_path / "1", pattern="^i/keep"), transfer)
    by_path = await pull(Rule(bucket, "i/", tmp_path / "2", pattern="^keep"), transfer)
    neither = await pull(Rule(bucket, "i/", tmp_path / "3", pattern="^drop"), transfer)

    assert list(contents(stored)) == ["i/keep/1.pt"]
    assert (by_key.files, by_path.files, neither.files) == (1, 1, 0)


async def test_compressed_objects_are_what_any_gzip_reader_expects(
    bucket: S3Bucket, local: Path, stored: Path, tmp_path: Path, transfer: Transfer
) -> None:
    """Key with .gz, Content-Encoding gzip, Content-Type of the uncompressed name."""
    write(local, "metrics.json", b"[1, 2, 3]" * 1000)
    write(local, "empty", b"")
    rule = Rule(bucket, "z/", local, compression=True)

    await push_after(rule, transfer)
    answer = await bucket._client.head_object(Bucket=bucket.name, Key="z/metrics.json.gz")
    await pull(Rule(bucket, "z/", tmp_path / "back", compression=True), transfer)

    assert gzip.decompress((stored / "z/metrics.json.gz").read_bytes()) == b"[1, 2, 3]" * 1000
    assert (answer["ContentEncoding"], answer["ContentType"]) == ("gzip", "application/json")
    assert contents(tmp_path / "back") == contents(local)


async def test_gzip_objects_are_left_alone_without_compression(
    rule: Rule, stored: Path, transfer: Transfer
) -> None:
    """Without `compression` an archive arrives as the archive it is."""
    # Made once: gzip writes the time into its header.
    archive = gzip.compress(b"x")
    write(stored, "run/data.gz", archive)

    await pull(rule, transfer)

    assert (rule.local_path / "data.gz").read_bytes() == archive


async def test_objects_that_are_not_packed_come_as_they_are_under_compression(
    bucket: S3Bucket, local: Path, stored: Path, transfer: Transfer
) -> None:
    """Only keys that end in .gz are unpacked, several members and other levels included."""
    write(stored, "run/plain.txt", b"plain")
    write(stored, "run/two.txt.gz", gzip.compress(b"a" * 70000) + gzip.compress(b"b", 9))

    await pull(Rule(bucket, "run/", local, compression=True), transfer)

    assert contents(local) == {"plain.txt": b"plain", "two.txt": b"a" * 70000 + b"b"}


async def test_a_broken_gzip_object_is_an_error_and_no_file(
    bucket: S3Bucket, local: Path, stored: Path, transfer: Transfer
) -> None:
    """A truncated archive does not become a short file."""
    write(stored, "run/a.txt.gz", gzip.compress(os.urandom(1000))[:-9])

    with pytest.raises(TransferFailed, match=r"a\.txt\.gz is not valid gzip"):
        await pull(Rule(bucket, "run/", local, compression=True), transfer)

    assert contents(local) == {}


@pytest.mark.parametrize("compression", [False, True])
async def test_large_files_go_in_parts_both_ways(
    bucket: S3Bucket, local: Path, tmp_path: Path, compression: bool
) -> None:
    """40 MiB with 16 MiB parts, byte for byte, within a memory budget of two parts."""
    transfer = Transfer(memory_bytes=32 << 20)
    data = os.urandom(40 << 20)
    write(local, "model.pt", data)

    await push_after(Rule(bucket, "m/", local, compression=compression), transfer)
    await pull(Rule(bucket, "m/", tmp_path / "back", compression=compression), transfer)

    assert (tmp_path / "back/model.pt").read_bytes() == data
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["model.pt"]


async def test_many_small_files_arrive_all(
    bucket: S3Bucket, local: Path, tmp_path: Path, transfer: Transfer
) -> None:
    """More than one page of a listing."""
    for number in range(1200):
        write(local, f"{number % 7}/{number}", str(number).encode())

    await push_after(Rule(bucket, "many/", local), transfer)
    await pull(Rule(bucket, "many/", tmp_path / "back"), transfer)

    assert contents(tmp_path / "back") == contents(local)


async def test_a_file_rule_moves_exactly_one_object(
    bucket: S3Bucket, local: Path, stored: Path, transfer: Transfer
) -> None:
    """The prefix is the key, and its neighbours are left alone."""
    write(stored, "models/base.pt", b"weights")
    write(stored, "models/base.pt.bak", b"other")

    pulled = await pull(Rule(bucket, "models/base.pt", local / "in/w.pt", kind="file"), transfer)
    await push_after(Rule(bucket, "result.pt", local / "in/w.pt", kind="file"), transfer)

    assert pulled.files == 1
    assert contents(local) == {"in/w.pt": b"weights"}
    assert (stored / "result.pt").read_bytes() == b"weights"


async def test_an_empty_prefix_is_no_error_and_the_directory_exists(
    bucket: S3Bucket, tmp_path: Path, transfer: Transfer
) -> None:
    """The first start of a job has no checkpoint yet."""
    pulled = await pull(Rule(bucket, "nothing/", tmp_path / "deep/er"), transfer)
    missing = await pull(Rule(bucket, "no.pt", tmp_path / "file/no.pt", kind="file"), transfer)

    assert (pulled.files, missing.files) == (0, 0)
    assert (tmp_path / "deep/er").is_dir()
    assert (tmp_path / "file").is_dir()


async def test_a_download_has_the_mtime_of_its_object(rule: Rule, stored: Path, transfer: Transfer) -> None:
    """Programs pick the newest checkpoint by its time."""
    os.utime(write(stored, "run/a.pt", b"x"), (1_600_000_000, 1_600_000_000))

    await pull(rule, transfer)

    assert (rule.local_path / "a.pt").stat().st_mtime == 1_600_000_000


async def test_links_go_up_with_their_content_but_not_out_of_the_directory(
    rule: Rule, stored: Path, tmp_path: Path, transfer: Transfer
) -> None:
    """Links within are followed, links out, dead links, loops, sockets and fifos are passed over."""
    local = rule.local_path
    write(local, "step-1/model.pt", b"weights")
    (local / "latest").symlink_to("step-1")
    (local / "same.pt").symlink_to("step-1/model.pt")
    (local / "secret").symlink_to(write(tmp_path, "secret", b"secret"))
    (local / "etc").symlink_to("/etc")
    (local / "dead").symlink_to("nowhere")
    (local / "step-1/loop").symlink_to("..")
    os.mkfifo(local / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(local / "socket"))
        await push_after(rule, transfer)

    assert contents(stored) == {
        "run/step-1/model.pt": b"weights",
        "run/latest/model.pt": b"weights",
        "run/same.pt": b"weights",
    }


async def test_a_download_does_not_follow_links_out_of_the_directory(
    rule: Rule, stored: Path, tmp_path: Path, transfer: Transfer
) -> None:
    """Whoever can write to the bucket must not write elsewhere on the machine."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (rule.local_path / "link").symlink_to(outside)
    write(stored, "run/link/evil", b"x")

    with pytest.raises(TransferFailed, match="leads out of"):
        await pull(rule, transfer)

    assert contents(outside) == {}


async def test_downloads_in_progress_and_snapshots_are_not_uploaded(
    rule: Rule, stored: Path, transfer: Transfer
) -> None:
    """Temporary names and Kelpie's own objects stay where they are."""
    write(rule.local_path, ".kelpie-download-0123456789abcdef", b"half")
    write(rule.local_path, ".kelpie/objects/00", b"object")
    write(rule.local_path, ".kelpie-not", b"a user's")

    await push_after(rule, transfer)

    assert contents(stored) == {"run/.kelpie-not": b"a user's"}


async def test_a_file_over_a_directory_is_an_error_that_says_so(
    rule: Rule, local: Path, stored: Path
) -> None:
    """An object cannot replace a directory of the same name."""
    write(stored, "run/a", b"x")
    write(local, "a/b", b"y")

    with pytest.raises(TransferFailed, match="there is a directory of that name") as failure:
        await pull(rule, Transfer(patience_s=1))

    assert not failure.value.is_retryable
    assert contents(local) == {"a/b": b"y"}
