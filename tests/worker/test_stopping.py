"""Cancels, notices, lost leases, murdered workers: nothing of a job survives, nothing is claimed falsely."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.worker.scripted import Coordinator, eventually, has_text, is_alive, pid_in, python_job, working

# Starts a grandchild in a session of its own that ignores every polite signal.
FAMILY = """
import os, signal, subprocess, sys, time
hidden = (
    "import signal, time\\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\\n"
    "print(1, flush=True)\\ntime.sleep(600)"
)
grandchild = subprocess.Popen([sys.executable, "-c", hidden], stdout=subprocess.PIPE, start_new_session=True)
grandchild.stdout.readline()
signal.signal(signal.SIGINT, lambda *_: sys.exit(open("signal", "w").write("SIGINT") and 0))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(open("signal", "w").write("SIGTERM") and 0))
open("grandchild", "w").write(str(grandchild.pid))
open("child", "w").write(str(os.getpid()))
time.sleep(600)
"""


async def test_a_cancel_ends_the_whole_process_tree(coordinator: Coordinator, tmp_path: Path) -> None:
    """SIGINT to the command, and no grandchild in a session of its own outlives it."""
    coordinator.submit(python_job(FAMILY, heartbeat_interval=60))
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: has_text(tmp_path / "child"))
        coordinator.lose("canceled")
        await eventually(lambda: worker.said("settled"))
        await eventually(lambda: not is_alive(pid_in(tmp_path / "child")))
        await eventually(lambda: not is_alive(pid_in(tmp_path / "grandchild")))
        assert await worker.leave() == 0
    assert (tmp_path / "signal").read_text() == "SIGINT"
    assert not coordinator.reports


async def test_the_stop_signal_of_the_job_is_respected(coordinator: Coordinator, tmp_path: Path) -> None:
    """A job that names SIGTERM is canceled by it."""
    coordinator.submit(python_job(FAMILY, stop_signal="SIGTERM"))
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: has_text(tmp_path / "child"))
        coordinator.lose("canceled")
        await eventually(lambda: has_text(tmp_path / "signal"))
    assert (tmp_path / "signal").read_text() == "SIGTERM"


async def test_a_notice_gives_the_job_back_even_if_the_command_exits_zero(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """Many scripts catch SIGTERM, write what they have and exit 0: that is no completion."""
    coordinator.submit(python_job(FAMILY))
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: has_text(tmp_path / "child"))
        assert await worker.leave() == 0
    assert (tmp_path / "signal").read_text() == "SIGTERM"
    assert [(kind, report["reason"]) for kind, report in coordinator.reports] == [("interrupted", "notice")]
    assert not is_alive(pid_in(tmp_path / "grandchild"))


async def test_a_command_that_ignores_the_notice_is_killed_in_time_to_report(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """The shutdown grace is shared: the report still gets out."""
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(600)"
    coordinator.submit(python_job(script, stop_grace_s=600))
    async with working(coordinator.url, tmp_path, KELPIE_SHUTDOWN_GRACE_S="2") as worker:
        await eventually(lambda: "deaf" in worker.stdout)
        assert await worker.leave() == 0
    assert [kind for kind, _ in coordinator.reports] == ["interrupted"]


async def test_a_notice_just_after_the_commands_death_by_sigterm_is_an_interruption(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """A machine that shuts down signals everybody at once, in any order."""
    coordinator.submit(python_job("import os; os.kill(os.getpid(), 15)"))
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: worker.said("started"))
        pid = next(entry["pid"] for entry in worker.log if entry["event"] == "started")
        await eventually(lambda: not is_alive(pid))
        assert await worker.leave() == 0
    assert [kind for kind, _ in coordinator.reports] == ["interrupted"]


async def test_a_death_by_sigterm_without_a_notice_is_a_failure(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """Somebody on the machine killed it; that counts."""
    coordinator.submit(python_job("import os; os.kill(os.getpid(), 15)"))
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: coordinator.reports)
    assert coordinator.reports_of("failed")[0]["signal"] == "SIGTERM"


async def test_a_lost_lease_ends_the_command_and_reports_nothing(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """The job is another machine's."""
    coordinator.submit(python_job(FAMILY))
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: has_text(tmp_path / "child"))
        coordinator.lose("running")
        await eventually(lambda: worker.said("settled"))
        assert not is_alive(pid_in(tmp_path / "child"))
    assert not coordinator.reports


async def test_a_server_that_is_away_does_not_stop_the_command(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """Past the lease the work goes on, and a late heartbeat takes the attempt back."""
    release = tmp_path / "release"
    script = f"import os, time\nwhile not os.path.exists({str(release)!r}): time.sleep(0.01)"
    coordinator.submit(python_job(script))
    async with working(coordinator.url, tmp_path / "w") as worker:
        await eventually(lambda: worker.said("started"))
        coordinator.failing["heartbeat"] = 503
        before = len(coordinator.heartbeats)
        await eventually(lambda: len(coordinator.heartbeats) > before + 12)
        del coordinator.failing["heartbeat"]
        release.touch()
        await eventually(lambda: coordinator.reports)
    assert [kind for kind, _ in coordinator.reports] == ["completed"]


async def test_a_murdered_worker_takes_the_command_with_it(coordinator: Coordinator, tmp_path: Path) -> None:
    """SIGKILL leaves no command running behind the next attempt's back."""
    coordinator.submit(python_job(FAMILY))
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: has_text(tmp_path / "child"))
        worker.process.kill()
        await worker.ended()
        await eventually(lambda: not is_alive(pid_in(tmp_path / "child")))


async def test_a_grandchild_that_holds_the_output_open_holds_nobody_up(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    """The command's exit is the end, whoever still has its pipes."""
    script = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)"
    )
    coordinator.submit(python_job(script))
    async with working(coordinator.url, tmp_path):
        await eventually(lambda: coordinator.reports)
    assert [kind for kind, _ in coordinator.reports] == ["completed"]


async def test_a_program_below_a_shell_has_the_grace_too(coordinator: Coordinator, tmp_path: Path) -> None:
    """The shell dies at once of the signal that the program saves its state on."""
    script = (
        "import os, signal, sys, time\n"
        "def save(*_):\n"
        "    time.sleep(0.5); open('saved', 'w').write('all'); sys.exit(0)\n"
        "signal.signal(15, save)\n"
        "open('child', 'w').write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "train.py").write_text(script)
    shell = {"command": "sh", "arguments": ["-c", f"{sys.executable} train.py; echo over"]}
    coordinator.submit(python_job("", **shell))
    async with working(coordinator.url, tmp_path) as worker:
        await eventually(lambda: has_text(tmp_path / "child"))
        assert await worker.leave() == 0
    assert (tmp_path / "saved").read_text() == "all"
    assert [kind for kind, _ in coordinator.reports] == ["interrupted"]
