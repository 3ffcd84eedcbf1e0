"""Real commands: started, passed through, stopped and swept away."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from kelpie.errors import ChildFailed
from kelpie.worker.child import Child, ChildExit, build_environment
from kelpie.worker.clock import boottime
from kelpie.worker.logs import Tail
from kelpie.worker.outcome import Ended
from tests.worker.scripted import eventually, has_text, is_alive, pid_in


def python(script: str, tail: Tail | None = None) -> Child:
    return Child(sys.executable, ["-u", "-c", script], dict(os.environ), tail or Tail())


async def test_both_streams_pass_through_unchanged_and_stay_in_the_tail(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Log collectors go on reading the worker's own streams."""
    tail = Tail()
    async with python("import sys; print('out'); print('err', file=sys.stderr)", tail) as child:
        await child.wait()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("out\n", "err\n")
    assert sorted(tail.text().split()) == ["err", "out"]


async def test_an_exit_code_is_an_exit_code() -> None:
    """Nothing else in the process may reap it."""
    async with python("raise SystemExit(3)") as child:
        ended = await child.wait()
    assert (ended.code, ended.signal, ended.ended) == (3, None, Ended.NONZERO)


async def test_a_polite_end_within_the_grace_is_no_kill() -> None:
    """All of its files may be stored."""
    async with python(
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); print(1); time.sleep(600)"
    ) as child:
        await _printed(child)
        ended = await child.stop(signal.SIGTERM, lambda: boottime() + 60)
    assert (ended.code, ended.killed_at) == (0, None)


async def test_a_command_that_ignores_the_signal_is_killed_when_its_grace_is_over() -> None:
    """`killed_at` says that what it wrote last may be half a file."""
    async with python(
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(600)"
    ) as child:
        await _printed(child)
        ended = await child.stop(signal.SIGTERM, boottime)
    assert ended.signal == "SIGKILL"
    assert ended.killed_at is not None


async def test_a_stopped_command_can_be_killed_too() -> None:
    """SIGSTOP is no hiding place."""
    async with python("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)") as child:
        ended = await child.stop(signal.SIGTERM, boottime)
    assert ended.killed_at is not None


async def test_a_shorter_grace_counts_while_the_longer_one_runs() -> None:
    """A notice that arrives during a cancel hurries it."""
    until = [boottime() + 600]
    async with python(
        "import signal, time; signal.signal(2, signal.SIG_IGN); print(1); time.sleep(600)"
    ) as child:
        await _printed(child)
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(child.stop(signal.SIGINT, lambda: until[0]))
            until[0] = boottime()
    assert stopping.result().killed_at is not None


async def test_a_daemon_that_left_the_session_is_found_and_killed(tmp_path: Path) -> None:
    """A double fork hides nobody: orphans come to the worker."""
    script = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
        f"while not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.01)\n"
    )
    async with python(script) as child:
        await child.wait()
        await eventually(lambda: has_text(tmp_path / "pid"))
    assert not is_alive(pid_in(tmp_path / "pid"))


async def test_a_daemon_does_not_make_a_polite_end_a_kill(tmp_path: Path) -> None:
    """What the command saved last is whole, whoever else had to be killed."""
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(15, lambda *_: sys.exit(0))\n"
        "daemon = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(daemon.pid))\n"
        "time.sleep(600)\n"
    )
    async with python(script) as child:
        await eventually(lambda: has_text(tmp_path / "pid"))
        ended = await child.stop(signal.SIGTERM, lambda: boottime() + 60)
    assert (ended.code, ended.killed_at) == (0, None)
    assert not is_alive(pid_in(tmp_path / "pid"))


async def test_other_processes_of_the_worker_are_spared() -> None:
    """What ran before the command is not the job's."""
    other = await asyncio.create_subprocess_exec("sleep", "600")
    async with python("pass") as child:
        await child.wait()
    assert is_alive(other.pid)
    other.kill()
    assert await other.wait() == -signal.SIGKILL


@pytest.mark.parametrize("command", ["no-such-command", "/etc/hostname", "/etc", "nul\0command", ""])
async def test_a_command_that_cannot_be_started_says_so(command: str) -> None:
    """Not found, not executable, a directory, nonsense."""
    with pytest.raises(ChildFailed, match="cannot be started"):
        async with Child(command, [], dict(os.environ), Tail()):
            pass


def test_keys_stay_with_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's command has no business with them; AWS variables it may need."""
    for name in ("KELPIE_API_KEY", "SALAD_API_KEY", "AWS_SECRET_ACCESS_KEY", "MORE"):
        monkeypatch.setenv(name, "secret")
    environment = build_environment({}, {}, strip=["MORE"])
    assert "AWS_SECRET_ACCESS_KEY" in environment
    assert not {"KELPIE_API_KEY", "SALAD_API_KEY", "MORE"} & set(environment)
    assert "KELPIE_API_KEY" in build_environment({}, {}, keep=["KELPIE_API_KEY"])


def test_kelpies_variables_win_over_the_jobs_and_the_jobs_over_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job cannot pretend to be another one."""
    monkeypatch.setenv("LEVEL", "worker")
    environment = build_environment({"LEVEL": "job", "KELPIE_JOB_ID": "forged"}, {"KELPIE_JOB_ID": "real"})
    assert (environment["LEVEL"], environment["KELPIE_JOB_ID"]) == ("job", "real")


@pytest.mark.parametrize(
    ("code", "signalled", "looks_so"),
    [
        (None, "SIGTERM", True),
        (None, "SIGHUP", True),
        (None, "SIGKILL", False),
        (143, None, True),
        (130, None, True),
        (137, None, False),
        (1, None, False),
        (0, None, False),
    ],
)
def test_a_death_by_a_shutdowns_signal_looks_like_a_shutdown(
    code: int | None, signalled: str | None, looks_so: bool
) -> None:
    """A shell reports its command's signal as 128 and more."""
    ended = ChildExit(code=code, signal=signalled, killed_at=None, ran_s=1)
    assert ended.is_like_shutdown is looks_so


def test_the_tail_keeps_the_end_and_no_more() -> None:
    """However much a command says."""
    tail = Tail(limit_bytes=10)
    for number in range(100):
        tail.add(f"line {number}\n".encode())
    assert tail.text() == "8\nline 99\n"


async def _printed(child: Child) -> None:
    await eventually(lambda: "1" in child._tail.text())  # noqa: SLF001 - the test's own tail
