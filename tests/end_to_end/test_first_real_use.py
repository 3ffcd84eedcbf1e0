"""The path that README describes, command by command, on a server without anything in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.stage import BUCKET, GROUP, Stage
from tests.kelpie_server import ServerProcess

TRAIN = """
cat "$2"/cat-1.txt "$2"/sub/cat-2.txt > "$6/model.txt"
echo "trained with $(cat "$6/model.txt")"
echo 3 > "$4/step.tmp" && mv "$4/step.tmp" "$4/step"
"""


async def _admin(stage: Stage, *arguments: str) -> str:
    said = await stage.kelpie("admin", *arguments, cwd=stage.server.directory, key="")
    assert said.code == 0, said.err
    return said.out.strip()


async def test_a_new_user_submits_waits_and_finds_the_outputs(own_stage: Stage) -> None:
    """User, two keys, a worker, a job with three kinds of directories, `wait`, `show`: as README has it."""
    stage = own_stage
    assert await _admin(stage, "user", "add", "alice")
    key = await _admin(stage, "key", "create", "alice")
    worker_key = await _admin(stage, "key", "create", "alice", "--scope", "worker")
    assert all(made.startswith("klp_") for made in (key, worker_key))
    stage.put("datasets/cats/cat-1.txt", b"one ")
    stage.put("datasets/cats/sub/cat-2.txt", b"two")
    machine = stage.machine("a", key=worker_key)
    (machine.disk / "train.sh").write_text(TRAIN)
    place = f"{BUCKET}/{stage.prefix}"
    submitted = await stage.kelpie(
        *("submit", "--group", GROUP, "--name", "lora-1"),
        *("--download", f"{place}datasets/cats:./data"),
        *("--checkpoint", f"{place}runs/lora-1/checkpoint:./checkpoint"),
        *("--after", f"{place}runs/lora-1/output:./output"),
        *("--", "sh", "train.sh", "--data", "./data", "--checkpoints", "./checkpoint", "--out", "./output"),
        key=key,
    )
    assert submitted.code == 0, submitted.err
    job_id = submitted.out.strip()
    waited = await stage.kelpie("wait", job_id, key=key)
    assert waited.code == 0, waited.err
    stored = stage.stored()
    assert stored["runs/lora-1/checkpoint/step"] == b"3\n"
    assert stored["runs/lora-1/output/model.txt"] == b"one two"
    shown = (await stage.kelpie("show", job_id, key=key)).out
    assert "lora-1" in shown
    assert "completed" in shown
    story = json.loads((await stage.kelpie("show", "-o", "json", job_id[:8], key=key)).out)
    (attempt,) = story["attempts"]
    assert (attempt["machine_id"], attempt["log_tail"]) == ("a", "trained with one two\n")
    assert job_id in (await stage.kelpie("jobs", key=key)).out


async def test_a_worker_key_can_work_and_nothing_else(stage: Stage) -> None:
    """With it one can neither submit, list, read nor cancel a job."""
    job = await stage.submit("hold never", environment={"SECRET": "of-alice"})
    for command in (["submit", "--", "true"], ["jobs"], ["show", job.id], ["cancel", job.id]):
        said = await stage.kelpie(*command, key=stage.worker_key)
        assert (said.code, said.out) == (4, ""), command
        assert "of-alice" not in said.err


async def test_wait_tells_by_its_exit_code_how_a_job_ended(stage: Stage) -> None:
    """1 for a failed job, 7 for a canceled one."""
    stage.machine("a")
    failing = await stage.submit("exit 3", max_failures=1)
    canceled = await stage.submit("hold never")
    await stage.until_running(canceled)
    await stage.kelpie("cancel", canceled.id)
    assert (await stage.kelpie("wait", failing.id)).code == 1
    assert (await stage.kelpie("wait", canceled.id)).code == 7
    assert "exit code 3" in (await stage.kelpie("show", failing.id)).out


@pytest.fixture
def server_without_key(tmp_path: Path) -> ServerProcess:
    """A server that was given no admin key, not started."""
    return ServerProcess(tmp_path, environment={"KELPIE_ADMIN_KEY": ""})


def test_a_new_server_prints_the_key_of_its_admin_once(server_without_key: ServerProcess) -> None:
    """The first start of `kelpie serve` shows a key that works; the second shows none."""
    with server_without_key as server:
        first = server.log.read_text()
        key = next(word for word in first.split() if word.startswith("klp_"))
        server.restart()
        assert server.call("GET", "/keys", key=key)["keys"]
        assert "klp_" not in server.log.read_text().removeprefix(first)
