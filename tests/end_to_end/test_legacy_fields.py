"""Jobs of the original with six bucket and prefix fields run as they did."""

from __future__ import annotations

import gzip

from tests.end_to_end.stage import BUCKET, Stage

SCRIPT = """
ls "$INPUT_DIR" "$CHECKPOINT_DIR" | sort | tr '\\n' ' ' > seen
put "$CHECKPOINT_DIR/step.txt" "$(cat "$CHECKPOINT_DIR/step.txt") 2"
mkdir "$OUTPUT_DIR/deep"
cp "$INPUT_DIR/data.txt" "$OUTPUT_DIR/deep/result.txt"
hold go
"""


def _fields(stage: Stage) -> dict[str, str]:
    # Without a slash at the end: the server adds it, as the original's does.
    return {
        f"{kind}_{field}": value
        for kind in ("input", "checkpoint", "output")
        for field, value in (("bucket", BUCKET), ("prefix", f"{stage.prefix}{kind}"))
    }


async def test_six_fields_move_input_checkpoint_and_output(stage: Stage) -> None:
    """Input and checkpoint are fetched, the checkpoint is kept in step, the output sent at the end."""
    stage.put("input/data.txt", b"data")
    stage.put("checkpoint/step.txt", b"1")
    machine = stage.machine("a")
    job = await stage.submit(SCRIPT, **_fields(stage))
    await stage.until_stored("checkpoint/step.txt", b"1 2")
    assert "output/deep/result.txt" not in stage.stored()
    stage.release("go")
    await stage.completed(job)
    assert stage.stored() == {
        "input/data.txt": b"data",
        "checkpoint/step.txt": b"1 2",
        "output/deep/result.txt": b"data",
    }
    assert (machine.disk / "seen").read_text().split() == [
        *sorted([f"{machine.disk}/checkpoint:", f"{machine.disk}/input:"]),
        "data.txt",
        "step.txt",
    ]


async def test_compression_stores_gzip_under_names_that_say_so(stage: Stage) -> None:
    """Objects named `.gz` are unpacked under their plain names, others come as they are; all go up packed."""
    stage.put("input/data.txt.gz", gzip.compress(b"data"))
    stage.put("input/plain.bin", b"\x00plain")
    stage.put("checkpoint/step.txt.gz", gzip.compress(b"1"))
    stage.machine("a")
    stage.release("go")
    script = f'{SCRIPT}cp "$INPUT_DIR/plain.bin" "$OUTPUT_DIR"'
    await stage.completed(await stage.submit(script, compression=True, **_fields(stage)))
    stored = stage.stored()
    sent = {
        "checkpoint/step.txt.gz": b"1 2",
        "output/deep/result.txt.gz": b"data",
        "output/plain.bin.gz": b"\x00plain",
    }
    assert set(stored) == {"input/data.txt.gz", "input/plain.bin", *sent}
    assert {name: gzip.decompress(stored[name]) for name in sent} == sent
