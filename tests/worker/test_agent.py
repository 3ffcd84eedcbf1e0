"""A real worker process against a scripted server: what it does and what it says."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.worker.scripted import Coordinator, eventually, python_job, working


async def test_a_job_that_exits_zero_is_reported_completed_with_its_output(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """Claim, heartbeat, command, report: one attempt from end to end."""
    coordinator.submit(python_job("print('step 1')"))
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: coordinator.reports)
        assert await worker.leave() == 0
    kind, report = coordinator.reports[0]
    assert kind == "completed"
    assert (report["machine_id"], report["container_group_id"], report["attempt"]) == (
        "machine-1",
        "default",
        1,
    )
    assert report["log_tail"] == "step 1\n"
    assert "step 1" in worker.stdout
    assert coordinator.heartbeats[0]["attempt"] == 1


async def test_one_job_follows_another(coordinator: Coordinator, tmp_path: Path) -> None:
    """The worker claims again once a job is settled."""
    coordinator.submit(python_job("pass"))
    coordinator.submit(python_job("pass", id="00000002-0000-4000-8000-000000000000", attempt=3))
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: len(coordinator.reports) == 2)
    assert [report["attempt"] for report in coordinator.reports_of("completed")] == [1, 3]


async def test_an_exit_code_is_reported_as_a_failure(coordinator: Coordinator, tmp_path: Path) -> None:
    """The server applies the retry rules to the code."""
    coordinator.submit(python_job("raise SystemExit(7)"))
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: coordinator.reports)
    failure = coordinator.reports_of("failed")[0]
    assert (failure["exit_code"], failure["signal"], failure["reason"]) == (7, None, "exit")


async def test_a_death_nobody_announced_is_a_failure(coordinator: Coordinator, tmp_path: Path) -> None:
    """Out of memory and crashes are the job's."""
    coordinator.submit(python_job("import os; os.kill(os.getpid(), 9)"))
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: coordinator.reports)
    failure = coordinator.reports_of("failed")[0]
    assert (failure["exit_code"], failure["signal"], failure["reason"]) == (None, "SIGKILL", "signal")


async def test_a_command_that_does_not_exist_fails_as_spawn(coordinator: Coordinator, tmp_path: Path) -> None:
    """The report says which command."""
    coordinator.submit(python_job("", command="no-such-command"))
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: coordinator.reports)
    failure = coordinator.reports_of("failed")[0]
    assert failure["reason"] == "spawn"
    assert "no-such-command" in failure["detail"]


async def test_a_command_past_its_time_limit_fails_as_timeout(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """Exit 0 after the worker's own signal is no success."""
    script = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); time.sleep(600)"
    coordinator.submit(python_job(script, timeout_s=0.5))
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: coordinator.reports)
    failure = coordinator.reports_of("failed")[0]
    assert (failure["reason"], failure["exit_code"]) == ("timeout", None)


async def test_progress_rides_on_the_heartbeat(coordinator: Coordinator, tmp_path: Path) -> None:
    """What the script writes to KELPIE_PROGRESS_FILE reaches the server."""
    script = "import os, time; open(os.environ['KELPIE_PROGRESS_FILE'], 'w').write('0.5'); time.sleep(600)"
    coordinator.submit(python_job(script))
    async with working(coordinator.url, tmp_path):
        await eventually(
            lambda: any(
                (beat.get("progress") or {}).get("progress") == 0.5 for beat in coordinator.heartbeats
            )
        )


async def test_an_idle_worker_leaves_at_once(coordinator: Coordinator, tmp_path: Path) -> None:
    """A long poll holds nobody back."""
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: coordinator.claims)
        assert await worker.leave() == 0
    assert coordinator.claims[0]["wait"] == "25.0"
    assert not coordinator.reports


@pytest.mark.parametrize(("signum", "reason"), [(signal.SIGTERM, "notice"), (signal.SIGINT, "drain")])
async def test_a_job_handed_out_to_a_worker_that_was_just_told_to_stop_is_given_back(
    coordinator: Coordinator, tmp_path: Path, signum: signal.Signals, reason: str
) -> None:
    """Its answer was on the way; otherwise the job would wait for a lease nobody holds."""
    coordinator.answering.clear()
    coordinator.submit(python_job("open('ran', 'w')"))
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: coordinator.claims)
        worker.process.send_signal(signum)
        await eventually(lambda: worker.said("leaving") or worker.said("draining"))
        coordinator.answering.set()
        assert await worker.ended() == 0
    reports = [(kind, report["attempt"], report["reason"]) for kind, report in coordinator.reports]
    assert reports == [("interrupted", 1, reason)]
    assert not (tmp_path / "ran").exists()
    assert len(coordinator.claims) == 1


async def test_a_worker_told_to_stop_while_the_server_is_away_asks_no_more(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """Between two tries nothing is on its way that is worth waiting for."""
    coordinator.failing["work"] = 503
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: worker.said("no_answer"))
        assert await worker.leave() == 0
    assert not coordinator.reports


async def test_progress_of_one_job_is_not_reported_for_the_next(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """Not even on the heartbeat before its command starts."""
    script = "import os; open(os.environ['KELPIE_PROGRESS_FILE'], 'w').write('0.9')"
    coordinator.submit(python_job(script))
    coordinator.submit(python_job("import time; time.sleep(600)", attempt=7))
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: any(beat["attempt"] == 7 for beat in coordinator.heartbeats))
    assert coordinator.reports_of("completed")[0]["progress"]["progress"] == 0.9
    first = next(beat for beat in coordinator.heartbeats if beat["attempt"] == 7)
    assert first["progress"] is None


async def test_a_refused_key_ends_the_worker_with_one_sentence(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """It says what to set."""
    async with working(coordinator.url, tmp_path, KELPIE_API_KEY="wrong") as worker:
        assert await worker.ended() != 0
    refused = [entry for entry in worker.log if entry["event"] == "refused"]
    assert "KELPIE_API_KEY" in refused[0]["hint"]


async def test_a_poll_is_repeated_with_its_claim_id_until_answered(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """A lost answer cannot strand a job, and trouble is said once."""
    coordinator.failing["work"] = 503
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: len(coordinator.claims) >= 3)
        assert len({claim["claim_id"] for claim in coordinator.claims}) == 1
        del coordinator.failing["work"]
        coordinator.submit(python_job("pass"))
        await eventually(lambda: coordinator.reports)
        await eventually(lambda: len({claim["claim_id"] for claim in coordinator.claims}) == 2)
    assert len([entry for entry in worker.log if entry["event"] == "no_answer"]) == 1


async def test_a_report_is_sent_until_it_is_answered(coordinator: Coordinator, tmp_path: Path) -> None:
    """A server that restarts loses no result."""
    coordinator.failing["completed"] = 503
    coordinator.submit(python_job("pass"))
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: len(coordinator.reports) >= 2)
        del coordinator.failing["completed"]
        await eventually(lambda: len(coordinator.claims) >= 2)
        assert await worker.leave() == 0


async def test_one_interrupt_finishes_the_job_first(coordinator: Coordinator, tmp_path: Path) -> None:
    """SIGINT drains."""
    release = tmp_path / "release"
    coordinator.submit(
        python_job(f"import os, time\nwhile not os.path.exists({str(release)!r}): time.sleep(0.01)")
    )
    async with working(coordinator.url, tmp_path / "w") as worker:
        await eventually(lambda: worker.said("started"))
        worker.process.send_signal(signal.SIGINT)
        await eventually(lambda: worker.said("draining"))
        release.touch()
        assert await worker.ended() == 0
    assert [kind for kind, _ in coordinator.reports] == ["completed"]
    assert len(coordinator.claims) == 1


async def test_two_interrupts_give_the_job_back(coordinator: Coordinator, tmp_path: Path) -> None:
    """The reason says that somebody gave up draining."""
    coordinator.submit(python_job("import time; time.sleep(600)"))
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: worker.said("started"))
        worker.process.send_signal(signal.SIGINT)
        await eventually(lambda: worker.said("draining"))
        assert await worker.leave(signal.SIGINT) == 0
    assert [(kind, report["reason"]) for kind, report in coordinator.reports] == [("interrupted", "drain")]


async def test_the_original_server_is_spoken_to_in_its_own_words(
    original: Coordinator, tmp_path: Path
) -> None:
    """No attempt number, no signal route, and polls at the idle interval."""
    async with working(original.url, tmp_path, HEARTBEAT_INTERVAL_S="0.05") as worker:
        await eventually(lambda: len(original.claims) >= 3)
        job = python_job("pass")
        del job["attempt"]
        original.submit(job)
        await eventually(lambda: original.reports)
        assert await worker.leave() == 0
    assert original.reports[0][0] == "completed"
    assert original.reports[0][1]["attempt"] is None
    assert original.heartbeats[0]["attempt"] is None
    assert original.signals == 0


async def test_a_state_file_serves_one_worker(coordinator: Coordinator, tmp_path: Path) -> None:
    """A second worker refuses to start, and says what to set."""
    async with working(coordinator.url, tmp_path / "one") as first:
        await eventually(lambda: coordinator.claims)
        file = str(tmp_path / "one" / "kelpie-state.json")
        async with working(coordinator.url, tmp_path / "two", KELPIE_STATE_FILE=file) as second:
            assert await second.ended() != 0
        assert "KELPIE_STATE_FILE" in (tmp_path / "two" / "stderr").read_text()
        assert await first.leave() == 0
