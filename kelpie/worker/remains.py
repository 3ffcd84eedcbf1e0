"""What a job of a dead worker left running: recognized by its session and its environment, and killed.

A command dies with its worker, but the kernel's word for that reaches no
further: what the command had started lives on, without a lease.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import structlog
from msgspec import Meta, Struct

from kelpie.worker import tree
from kelpie.worker.tree import Process

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_log = structlog.get_logger(__name__)


class Origin(Struct, frozen=True, kw_only=True, rename="camel"):
    """One process, a session's leader, told apart from every later one of the same number."""

    # 0 stands for whatever is out of a container's sight, and 1 is its init.
    pid: Annotated[int, Meta(gt=1)]
    start_ticks: int
    world: str


def origin_of(pid: int) -> Origin | None:
    """Who a process is; None when it has ended."""
    process = tree.look(pid)
    return Origin(pid=pid, start_ticks=process.started, world=_world()) if process else None


def mark_of(job_id: str, attempt: int, state_file: Path) -> dict[str, str]:
    """The variables that every process of an attempt is known by, unless it cleared them."""
    # The state file, because two workers of one machine may run the same attempt 0 of the original.
    return {
        "KELPIE_JOB_ID": job_id,
        "KELPIE_ATTEMPT": str(attempt),
        "KELPIE_STATE_FILE": str(state_file),
    }


async def kill_remains(origin: Origin | None, mark: Mapping[str, str]) -> int:
    """Kill what is left of a command's session, and whatever carries its mark; how many there were."""
    killed: set[int] = set()
    left: set[int] = set()
    # Repeated, because a process may fork between the look and the kill.
    for _ in range(int(tree.KILL_WITHIN_S / tree.KILL_STEP_S)):
        left = await asyncio.to_thread(remains, origin, mark)
        if not left:
            return len(killed)
        killed |= {pid for pid in left if tree.kill(pid)}
        await asyncio.sleep(tree.KILL_STEP_S)
    _log.error("processes_left", pids=sorted(left))
    return len(killed)


def remains(origin: Origin | None, mark: Mapping[str, str]) -> set[int]:
    """Who lives of a command's session, who carries its mark, and who is below those."""
    everybody = {process.pid: process for process in tree.processes()}
    spared = _own_line(everybody)
    session = _session(origin, everybody)
    wanted = {os.fsencode(f"{name}={value}") for name, value in mark.items()}
    found = {
        pid
        for pid, process in everybody.items()
        if pid not in spared and (process.session == session or wanted <= _environment(pid))
    }
    found |= tree.below(found, everybody.values(), spared)
    return {pid for pid in found if everybody[pid].state not in tree.DEAD}


def _session(origin: Origin | None, everybody: Mapping[int, Process]) -> int | None:
    """The number of the command's session if it can only mean that one."""
    if origin is None or origin.world != _world() or origin.pid == os.getsid(0):
        return None
    # A number is not given out again while any process of the session lives, so a dead leader is no
    # objection; a living one that started at another time leads a session of somebody else's.
    leader = everybody.get(origin.pid)
    is_same = leader is None or leader.started == origin.start_ticks
    return origin.pid if is_same else None


def _own_line(everybody: Mapping[int, Process]) -> set[int]:
    # Whoever started this worker is not to be killed by it, whatever it was started from.
    line: set[int] = set()
    pid = os.getpid()
    while pid in everybody and pid not in line:
        line.add(pid)
        pid = everybody[pid].parent
    return line


def _environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()  # it ended, or is another user's


def _world() -> str:
    """Where a process number means something: this boot, and the container that this init began."""
    init = tree.look(1)
    return f"{_BOOT_ID.read_text().strip()}/{init.started if init else 'unknown'}"
