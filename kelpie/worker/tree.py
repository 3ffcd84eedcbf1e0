"""The process tree of a job: what is left of it after its command ended, killed and reaped by pid.

The worker is a child subreaper, so whatever the command started ends up below
the worker, even from a session of its own. `spared` names the processes below
the worker that are not the job's. Never a blanket `waitpid(-1)`: it would
steal the exit code that asyncio waits for.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

REAP_EVERY_S = 2.0
KILL_WITHIN_S = 10.0
_KILL_STEP_S = 0.02
_DEAD = frozenset({b"Z", b"X", b"x"})
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
_log = structlog.get_logger(__name__)


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        _log.warning("no_subreaper", why=os.strerror(ctypes.get_errno()))


def die_with(worker: int) -> None:
    """Make the calling process die with `worker`, its parent; runs between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != worker:
        # The worker died before the kernel knew of the wish.
        os._exit(1)


def descendants(root: int, spared: Collection[int] = ()) -> set[int]:
    """Every process below `root`, zombies included, save `spared` and what is below those."""
    below: dict[int, list[int]] = {}
    for process in _processes():
        below.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    todo = [root]
    while todo:
        children = [pid for pid in below.get(todo.pop(), ()) if pid not in spared and pid not in found]
        found.update(children)
        todo.extend(children)
    return found


def has_living(group: int) -> bool:
    """Whether any process of the group `group` still runs."""
    return any(process.group == group and process.state not in _DEAD for process in _processes())


async def kill_all(spared: Collection[int]) -> int:
    """Kill whatever is left below this process, however it hides; how many there were."""
    killed: set[int] = set()
    # Repeated, because a process may fork between the look and the kill.
    for _ in range(int(KILL_WITHIN_S / _KILL_STEP_S)):
        left = descendants(os.getpid(), spared)
        if not left:
            return len(killed)
        killed |= {pid for pid in left if not _reap(pid) and _kill(pid)}
        await asyncio.sleep(_KILL_STEP_S)
    _log.error("processes_left", pids=sorted(descendants(os.getpid(), spared)))
    return len(killed)


async def reap_orphans(spared: Collection[int]) -> None:
    """Reap, until cancelled, orphans of the job that ended: they would fill the process table."""
    while True:
        await asyncio.sleep(REAP_EVERY_S)
        while (pid := _waitable()) is not None and pid not in spared:
            _reap(pid)


class _Process(NamedTuple):
    """What /proc says of one process."""

    pid: int
    state: bytes
    parent: int
    group: int


def _processes() -> Iterator[_Process]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                line = Path(entry.path, "stat").read_bytes()
            except OSError:
                continue  # it ended meanwhile
            # The name in parentheses may hold anything, parentheses included.
            state, parent, group = line.rpartition(b")")[2].split()[:3]
            yield _Process(int(entry.name), state, int(parent), int(group))


def _waitable() -> int | None:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found else None


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True
