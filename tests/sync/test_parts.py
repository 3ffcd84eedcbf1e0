"""The small pieces: paths, patterns, gzip, the memory budget, settling."""

from __future__ import annotations

import asyncio
import gzip
import re
from pathlib import Path

import pytest

from kelpie.errors import InvalidRequest, TransferFailed
from kelpie.patterns import compile_pattern
from kelpie.sync.budget import Budget
from kelpie.sync.codec import Packer, Unpacker, content_of
from kelpie.sync.ledger import Ledger
from kelpie.sync.paths import safe_target
from kelpie.sync.settle import Settling
from kelpie.sync.source import Signature


@pytest.mark.parametrize(
    "relative",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "a/./b", "a/..", "..", "a\0b", "a/", "./a"],
)
def test_no_key_leaves_the_directory(tmp_path: Path, relative: str) -> None:
    """Such a key is refused, not bent into something else."""
    with pytest.raises(TransferFailed, match="cannot become a file"):
        safe_target(tmp_path, relative)


@pytest.mark.parametrize("relative", ["a", "..a", "a../b", "...", "a\\..\\b", " ", "a:b", "~", "-"])
def test_unusual_names_are_names(tmp_path: Path, relative: str) -> None:
    """Only what the file system takes for something else is refused."""
    assert safe_target(tmp_path, relative) == tmp_path / relative


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        (r"\.pt$", "a/b.pt", "a/b.pt\n"),
        (r"^(?<name>\w+)-\k<name>$", "ab-ab", "ab-cd"),
        (r"(?<!tmp)/x", "a/x", "tmp/x"),
        (r"(?<=a)b", "ab", "cb"),
        (r"^\w+$", "abc", "äbc"),
        (r"^\d$", "1", "\u0661"),
        (r"[$]\$", "$$", "$"),
        (r"a\/b", "a/b", "ab"),
        (r"[[]x", "[x", "x"),
    ],
)
def test_a_pattern_means_what_it_means_in_ecmascript(pattern: str, found: str, not_found: str) -> None:
    """Named groups, ASCII classes, the end of the text."""
    compiled = compile_pattern(pattern)
    assert compiled.search(found)
    assert not compiled.search(not_found)


@pytest.mark.parametrize(
    "pattern", ["(", "[a", "*", r"(?<1>a)", r"(?<a>x)(?<a>y)", r"\k<nothing>", "a" * 9 + "{2,1}"]
)
def test_a_pattern_that_is_none_is_refused(pattern: str) -> None:
    """With the pattern in the message."""
    with pytest.raises(InvalidRequest, match=re.escape(repr(pattern))):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.pt", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_content_type_follows_the_extension(name: str, kind: str) -> None:
    """Unknown ones are bytes."""
    assert content_of(name, compression=False).type == kind


def test_a_gzip_bomb_is_unpacked_in_bounded_steps() -> None:
    """So that somebody can stop it in between."""
    unpacker = Unpacker("bomb")
    unpacker.feed(gzip.compress(bytes(50 << 20)))
    steps = []
    while data := unpacker.step(1 << 20):
        steps.append(len(data))
    unpacker.finish()
    assert max(steps) <= 1 << 20
    assert sum(steps) == 50 << 20


def test_what_is_packed_in_pieces_is_one_gzip_member() -> None:
    """Readable by everybody's gzip."""
    packer = Packer()
    packed = b"".join([packer.pack(b"a" * 1000), packer.pack(b"b"), packer.finish()])
    assert gzip.decompress(packed) == b"a" * 1000 + b"b"


async def test_the_budget_is_never_exceeded_and_never_lost() -> None:
    """Not even when those who wait are canceled at any moment."""
    budget = Budget(10)
    in_use = 0
    highest = 0

    async def use(amount: int) -> None:
        nonlocal in_use, highest
        async with budget.held(amount):
            in_use += min(amount, 10)
            highest = max(highest, in_use)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            in_use -= min(amount, 10)

    tasks = [asyncio.create_task(use(1 + number % 12)) for number in range(200)]
    for turn, task in enumerate(tasks):
        if turn % 3 == 0:
            task.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)

    assert highest <= 10
    assert await asyncio.wait_for(budget.acquire(10), 1) == 10


def test_a_file_is_due_after_enough_equal_readings() -> None:
    """And starts anew when it changes."""
    settling = Settling(debounce_s=0, max_wait_s=5, check_s=0.05, checks=4)
    one, two = Signature(1, 1, 1), Signature(2, 2, 1)
    history = [(0.0, one), (0.05, one), (0.10, two), (0.15, two), (0.20, two), (0.21, two)]
    for now, signature in history:
        settling.reading("a", signature, now)
    assert settling.due(0.21) == []
    settling.reading("a", two, 0.25)
    assert settling.due(0.26) == ["a"]


def test_a_file_that_never_rests_is_due_in_the_end() -> None:
    """MAX_WAIT after it was seen to change."""
    settling = Settling(debounce_s=0, max_wait_s=5, check_s=0.05, checks=4)
    for tick in range(100):
        settling.reading("a", Signature(tick, tick, 1), tick * 0.05)
    assert settling.due(4.99) == []
    assert settling.due(5.0) == ["a"]


def test_an_inode_used_again_is_no_rename() -> None:
    """A file being written has its last change of inode and content at once."""
    ledger = Ledger({"tmp": Signature(5, 100, 7, 100)})
    assert ledger.came_whole("new", Signature(5, 100, 7, 300), {"tmp"})
    assert ledger.came_whole("new", Signature(9, 200, 7, 300), {"tmp"})
    assert not ledger.came_whole("new", Signature(9, 200, 7, 200), {"tmp"})
    assert not ledger.came_whole("new", Signature(5, 100, 7, 300), set())
