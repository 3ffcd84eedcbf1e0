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
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

REAP_EVERY_S = 2.0
KILL_WITHIN_S = 10.0
KILL_STEP_S = 0.02
_STARTED = 19  # of what follows the name in /proc/<pid>/stat
DEAD = frozenset({b"Z", b"X", b"x"})
"""States, as /proc names them, in which a process runs no more."""

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


class Process(NamedTuple):
    """What /proc says of one process."""

    pid: int
    state: bytes
    parent: int
    group: int
    session: int
    started: int
    """Clock ticks from boot to its start."""


def processes() -> Iterator[Process]:
    """Every process there is, zombies included."""
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            process = look(int(entry.name))
            if process is not None:
                yield process


def look(pid: int) -> Process | None:
    """One process; None when it has ended."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name in parentheses may hold anything, parentheses included.
    fields = line.rpartition(b")")[2].split()
    state, parent, group, session = fields[:4]
    return Process(pid, state, int(parent), int(group), int(session), int(fields[_STARTED]))


def kill(pid: int) -> bool:
    """Kill one process; whether there was one that could be killed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def descendants(root: int, spared: Collection[int] = ()) -> set[int]:
    """Every process below `root`, zombies included, save `spared` and what is below those."""
    return below((root,), processes(), spared)


def below(roots: Iterable[int], everybody: Iterable[Process], spared: Collection[int] = ()) -> set[int]:
    """Whoever of `everybody` is below one of `roots`, save `spared` and what is below those."""
    children_of: dict[int, list[int]] = {}
    for process in everybody:
        children_of.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    todo = list(roots)
    while todo:
        children = [pid for pid in children_of.get(todo.pop(), ()) if pid not in spared and pid not in found]
        found.update(children)
        todo.extend(children)
    return found


def has_living(group: int) -> bool:
    """Whether any process of the group `group` still runs."""
    return any(process.group == group and process.state not in DEAD for process in processes())


async def kill_all(spared: Collection[int]) -> int:
    """Kill whatever is left below this process, however it hides; how many there were."""
    killed: set[int] = set()
    # Repeated, because a process may fork between the look and the kill.
    for _ in range(int(KILL_WITHIN_S / KILL_STEP_S)):
        left = descendants(os.getpid(), spared)
        if not left:
            return len(killed)
        killed |= {pid for pid in left if not _reap(pid) and kill(pid)}
        await asyncio.sleep(KILL_STEP_S)
    _log.error("processes_left", pids=sorted(descendants(os.getpid(), spared)))
    return len(killed)


async def reap_orphans(spared: Collection[int]) -> None:
    """Reap, until cancelled, orphans of the job that ended: they would fill the process table."""
    while True:
        await asyncio.sleep(REAP_EVERY_S)
        while (pid := _waitable()) is not None and pid not in spared:
            _reap(pid)


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
