"""A worker's data: fetched before, kept in step, delivered before the job is called completed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.s3_server import S3Server
from tests.worker.scripted import Coordinator, eventually, python_job, working


def rule(path: Path, prefix: str, direction: str, bucket: str = "data") -> dict[str, Any]:
    return {"bucket": bucket, "prefix": prefix, "local_path": str(path), "direction": direction}


def waiting(then: str, release: Path) -> str:
    """A script that does `then` once and ends when `release` is there."""
    return f"import os, time\n{then}\nwhile not os.path.exists({str(release)!r}): time.sleep(0.01)"


async def test_data_travels_with_the_job(
    coordinator: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """`before` is there when the command starts; `during` and `after` are stored before `completed`."""
    data = s3_server.create_bucket("data")
    (data / "in").mkdir(exist_ok=True)
    (data / "in" / "corpus").write_text("words")
    work = tmp_path / "work"
    script = (
        f"import os; here = {str(work)!r}\n"
        "text = open(here + '/in/corpus').read()\n"
        "open(here + '/steps/1.pt', 'w').write('state')\n"
        "open(here + '/out/model', 'w').write(text + ' learnt')"
    )
    sync = {
        "before": [rule(work / "in", "in/", "download")],
        "during": [rule(work / "steps", "steps/", "upload")],
        "after": [rule(work / "out", "out/", "upload")],
    }
    coordinator.submit(python_job(script, sync=sync))
    async with working(coordinator.url, tmp_path / "w", **s3_server.env()) as worker:
        await eventually(lambda: coordinator.reports)
        assert (data / "out" / "model").read_text() == "words learnt"
        assert (data / "steps" / "1.pt").read_text() == "state"
        await eventually(lambda: len(coordinator.claims) == 2)
        assert await worker.leave() == 0
    kind, report = coordinator.reports[0]
    assert kind == "completed"
    assert (report["bytes_in"], report["bytes_out"]) == (5, 17)
    assert report["checkpoint"]["files"] == 1
    assert not [path for directory in work.iterdir() for path in directory.iterdir()]


async def test_a_checkpoint_is_stored_while_the_command_runs_and_told_of_on_the_heartbeat(
    coordinator: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """What a dead machine leaves behind is what the next one starts from."""
    data = s3_server.create_bucket("data")
    work = tmp_path / "ck"
    script = waiting(f"open({str(work / 'a.pt')!r}, 'w').write('1')", tmp_path / "release")
    coordinator.submit(python_job(script, sync={"during": [rule(work, "running/", "upload")]}))
    async with working(coordinator.url, tmp_path / "w", **s3_server.env()):
        await eventually((data / "running" / "a.pt").is_file)
        await eventually(
            lambda: any((beat.get("checkpoint") or {}).get("files") for beat in coordinator.heartbeats)
        )


async def test_a_notice_stores_the_last_checkpoint_before_the_job_is_given_back(
    coordinator: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """What the script writes on SIGTERM is not lost."""
    data = s3_server.create_bucket("data")
    last = tmp_path / "ck" / "last.pt"
    script = (
        "import signal, sys, time\n"
        f"def save(*_): open({str(last)!r}, 'w').write('final'); sys.exit(0)\n"
        "signal.signal(15, save); print('ready'); time.sleep(600)"
    )
    coordinator.submit(python_job(script, sync={"during": [rule(last.parent, "noticed/", "upload")]}))
    async with working(coordinator.url, tmp_path / "w", **s3_server.env()) as worker:
        await eventually(lambda: "ready" in worker.stdout)
        assert await worker.leave() == 0
    assert (data / "noticed" / "last.pt").read_text() == "final"
    assert [kind for kind, _ in coordinator.reports] == ["interrupted"]


async def test_a_bucket_that_is_not_there_fails_the_download_and_starts_nothing(
    coordinator: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """No command runs on data that could not be fetched."""
    sync = {"before": [rule(tmp_path / "in", "x/", "download", bucket="no-such-bucket")]}
    coordinator.submit(python_job("print('ran')", sync=sync))
    async with working(coordinator.url, tmp_path / "w", **s3_server.env()) as worker:
        await eventually(lambda: coordinator.reports)
    assert coordinator.reports_of("failed")[0]["reason"] == "download"
    assert "ran" not in worker.stdout


async def test_a_result_that_cannot_be_stored_is_no_completion(
    coordinator: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """Exit 0 is not enough: the reason is `upload`."""
    out = tmp_path / "out"
    sync = {"after": [rule(out, "x/", "upload", bucket="no-such-bucket")]}
    coordinator.submit(python_job(f"open({str(out / 'model')!r}, 'w').write('1')", sync=sync))
    async with working(coordinator.url, tmp_path / "w", **s3_server.env()):
        await eventually(lambda: coordinator.reports)
    failure = coordinator.reports_of("failed")[0]
    assert failure["reason"] == "upload"
    assert "no-such-bucket" in failure["detail"]


async def test_a_checkpoint_that_can_never_be_stored_ends_the_attempt(
    coordinator: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """Hours of work without a checkpoint help nobody."""
    work = tmp_path / "ck"
    script = waiting(f"open({str(work / 'a.pt')!r}, 'w').write('1')", tmp_path / "never")
    sync = {"during": [rule(work, "x/", "upload", bucket="no-such-bucket")]}
    coordinator.submit(python_job(script, sync=sync))
    async with working(coordinator.url, tmp_path / "w", **s3_server.env()):
        await eventually(lambda: coordinator.reports)
    assert coordinator.reports_of("failed")[0]["reason"] == "upload"


async def test_nothing_is_written_past_the_workers_own_deadline(
    coordinator: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """Without an accepted heartbeat no object appears; once one is accepted it does."""
    data = s3_server.create_bucket("data")
    work, release = tmp_path / "ck", tmp_path / "release"
    coordinator.failing["heartbeat"] = 503
    script = waiting(f"open({str(work / 'a.pt')!r}, 'w').write('1'); print('written')", release)
    coordinator.submit(python_job(script, sync={"during": [rule(work, "fenced/", "upload")]}))
    async with working(coordinator.url, tmp_path / "w", **s3_server.env()) as worker:
        await eventually(lambda: "written" in worker.stdout)
        before = len(coordinator.heartbeats)
        await eventually(lambda: len(coordinator.heartbeats) > before + 8)
        assert not (data / "fenced" / "a.pt").exists()
        del coordinator.failing["heartbeat"]
        await eventually((data / "fenced" / "a.pt").exists)


async def test_the_originals_fields_become_the_three_directories(
    original: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """Input and checkpoint are fetched, the checkpoint is kept in step, the output delivered."""
    data = s3_server.create_bucket("data")
    for prefix in ("li", "lc"):
        (data / prefix).mkdir(exist_ok=True)
        (data / prefix / "old").write_text(prefix)
    script = (
        "import os; e = os.environ\n"
        "both = open(e['INPUT_DIR'] + '/old').read() + open(e['CHECKPOINT_DIR'] + '/old').read()\n"
        "open(e['CHECKPOINT_DIR'] + '/new', 'w').write(both)\n"
        "open(e['OUTPUT_DIR'] + '/result', 'w').write(e['KELPIE_RESTORED'])"
    )
    legacy = {
        f"{name}_{what}": value
        for name, prefix in (("input", "li/"), ("checkpoint", "lc/"), ("output", "lo/"))
        for what, value in (("bucket", "data"), ("prefix", prefix))
    }
    job = python_job(script, **legacy)
    del job["sync"], job["attempt"]
    original.submit(job)
    async with working(original.url, tmp_path / "w", HEARTBEAT_INTERVAL_S="0.05", **s3_server.env()):
        await eventually(lambda: original.reports)
    assert original.reports[0][0] == "completed"
    assert (data / "lc" / "new").read_text() == "lilc"
    assert (data / "lo" / "result").read_text() == "true"


async def test_a_directory_in_use_gives_the_job_back(
    coordinator: Coordinator, s3_server: S3Server, tmp_path: Path
) -> None:
    """Two workers on one machine never empty each other's directories; overlap counts."""
    work = tmp_path / "shared"
    script = waiting(f"open({str(work / 'mine')!r}, 'w').write('1'); print('here')", tmp_path / "release")
    coordinator.submit(python_job(script, sync={"after": [rule(work, "x/", "upload")]}))
    async with (
        working(coordinator.url, tmp_path / "one", **s3_server.env()) as one,
        working(coordinator.url, tmp_path / "two", **s3_server.env()) as two,
    ):
        await eventually(lambda: "here" in one.stdout + two.stdout)
        await eventually(lambda: len(coordinator.claims) == 2)
        below = [rule(work / "below", "y/", "upload")]
        coordinator.submit(
            python_job("pass", id="00000002-0000-4000-8000-000000000000", sync={"after": below})
        )
        await eventually(lambda: coordinator.reports)
        assert coordinator.reports_of("interrupted")[0]["reason"] == "directory-busy"
        assert (work / "mine").exists()
