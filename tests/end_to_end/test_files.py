"""What a script writes is what lies in the bucket, and what the next one reads."""

from __future__ import annotations

import random

import pytest

from tests.end_to_end.stage import Stage

NAMES = [
    "plain.txt",
    ".hidden",
    "empty",
    "deep/er/and/deeper/file",
    "with space & plus+=.txt",
    "100%25 #1?.bin",
    "größe/日本語/✓ 🐕.txt",
    "a'b\"c.txt",
]
LARGE = 24 << 20


def _content(name: str) -> bytes:
    return b"" if name == "empty" else f"content of {name}".encode()


@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "compressed"])
async def test_a_tree_of_files_comes_back_as_it_was(stage: Stage, is_compressed: bool) -> None:
    """Nested directories, odd names, empty and large files survive the way up, down and up again."""
    tree = {name: _content(name) for name in NAMES} | {"large.bin": random.Random(1).randbytes(LARGE)}
    for name, content in tree.items():
        stage.put(f"first/{name}", content)
    stage.machine("a")
    there = await stage.submit(
        "cp -r first/. second", sync=stage.sync(before="first", after="second"), compression=is_compressed
    )
    await stage.completed(there)
    back = await stage.submit(
        "cp -r second/. third", sync=stage.sync(before="second", after="third"), compression=is_compressed
    )
    await stage.completed(back)
    stored = stage.stored()
    suffix = ".gz" if is_compressed else ""
    assert set(stored) == {f"first/{name}" for name in tree} | {
        f"{step}/{name}{suffix}" for step in ("second", "third") for name in tree
    }
    assert all(stored[f"third/{name}{suffix}"] == stored[f"second/{name}{suffix}"] for name in tree)
    if not is_compressed:
        assert all(stored[f"second/{name}"] == content for name, content in tree.items())


async def test_what_a_script_deletes_while_it_runs_is_deleted_in_the_bucket(stage: Stage) -> None:
    """Old checkpoints that a script removes do not pile up; what lay there before the job is left alone."""
    stage.put("checkpoint/step-0", b"0")
    stage.put("during/of-another-job", b"kept")
    stage.machine("a")
    script = """
        put checkpoint/step-1 1; put during/a 1
        hold go
        put checkpoint/step-2 2; put during/b 2; rm checkpoint/step-0 checkpoint/step-1 during/a
        hold end
    """
    job = await stage.submit(script, sync=stage.sync(checkpoint="checkpoint", during="during"))
    await stage.until_stored("checkpoint/step-1", b"1")
    await stage.until_stored("during/a", b"1")
    stage.release("go")
    left = {"checkpoint/step-2": b"2", "during/b": b"2", "during/of-another-job": b"kept"}
    await stage.until_everything_stored(left)
    stage.release("end")
    await stage.completed(job)
    assert stage.stored() == left


async def test_a_checkpoint_written_right_before_the_end_is_in_the_bucket(stage: Stage) -> None:
    """Completed means that the last state is stored, however short before the exit it was written."""
    stage.machine("a")
    script = """
        put checkpoint/renamed old; printf old > checkpoint/rewritten; printf old > checkpoint/removed
        hold go
        put checkpoint/renamed new; printf new > checkpoint/rewritten; rm checkpoint/removed
        mkdir checkpoint/late; printf new > checkpoint/late/born
    """
    job = await stage.submit(script, sync=stage.sync(checkpoint="checkpoint"))
    await stage.until_stored("checkpoint/removed", b"old")
    stage.release("go")
    await stage.completed(job)
    assert stage.stored() == {f"checkpoint/{name}": b"new" for name in ("renamed", "rewritten", "late/born")}


async def test_a_job_leaves_no_file_to_the_next(stage: Stage) -> None:
    """The directories of a job are emptied when it ends, and nothing of it reaches the next one's prefix."""
    stage.put("input/data", b"1")
    machine = stage.machine("a")
    first = await stage.submit(
        "cp -r input/. output/deep; put checkpoint/step 1; ln -s /etc output/link",
        sync=stage.sync(before="input", checkpoint="checkpoint", after="output"),
    )
    await stage.completed(first)
    stored = stage.stored()
    second = await stage.submit(
        "find input output checkpoint -mindepth 1 > listed; hold go",
        container_group_id="gpu",
        sync=stage.sync(before="nothing/input", checkpoint="nothing/checkpoint"),
    )
    stage.release("go")
    await stage.completed(second)
    assert (machine.disk / "listed").read_text() == ""
    assert stage.stored() == stored
