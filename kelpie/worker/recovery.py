"""The first thing a worker does: see to what one that was killed on this disk left behind.

Its jobs' processes are killed, their directories emptied, and the attempts
given back, so that nothing of them reaches another job and nobody waits for
their leases. What was worth keeping is in the bucket.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from kelpie.contract import Interruption
from kelpie.errors import KelpieError
from kelpie.lifecycle import Reason
from kelpie.worker.home import Home
from kelpie.worker.locks import DirectoryBusy
from kelpie.worker.plan import Pairing, Plan
from kelpie.worker.refusals import DirectoryRefused, resolve
from kelpie.worker.remains import kill_remains, mark_of
from kelpie.worker.state_file import Occupied, Unfinished
from kelpie.worker.workspace import Workspace

_GIVE_BACK_S = 3.0
_RETRY_S = 0.5
_log = structlog.get_logger(__name__)


async def recover(home: Home) -> None:
    """Kill, give back and empty what the worker before this one left; a server that is away delays little."""
    unfinished = home.state.unfinished
    for job in unfinished:
        # First of all: whoever takes the job next must be the only one who computes.
        killed = await kill_remains(job.child, mark_of(job.id, job.attempt, home.state.path))
        _log.warning(
            "recovering",
            job_id=job.id,
            attempt=job.attempt,
            killed=killed,
            hint="The worker before this one ended without cleaning up: killed, or out of memory.",
        )
    await _give_all_back(home, [job for job in unfinished if job.end is None])
    for job in unfinished:
        for occupied in job.directories:
            await asyncio.to_thread(_empty, home, occupied)
    if unfinished:
        await home.state.recovered()


async def _give_all_back(home: Home, jobs: list[Unfinished]) -> None:
    try:
        async with asyncio.timeout(_GIVE_BACK_S):
            for job in jobs:
                await _give_back(home, job)
    except TimeoutError:
        _log.warning("not_given_back", why="The server does not answer.", hint="The lease runs out instead.")


async def _give_back(home: Home, job: Unfinished) -> None:
    if not job.attempt:
        return  # the original has no way to give a job back
    report = Interruption(
        machine_id=home.machine.machine_id,
        container_group_id=home.machine.container_group_id,
        attempt=job.attempt,
        reason=Reason.WORKER_FAULT,
    )
    while True:
        try:
            await home.client.interrupted(job.id, report)
        except KelpieError as error:
            if not error.is_retryable:
                # It ended otherwise, or another machine has it: nothing is left to give back.
                _log.debug("nothing_to_give_back", job_id=job.id, why=error.message)
                return
            await asyncio.sleep(_RETRY_S)
        else:
            return


def _empty(home: Home, occupied: Occupied) -> None:
    if occupied.found is None:
        return _say_left(occupied, "Too much was there before Kelpie used it to tell what is the job's.")
    path = Path(occupied.path)
    if not path.exists() and not path.is_symlink():
        return None
    try:
        if resolve(occupied.path, occupied.kind, home.config) != path:
            return _say_left(occupied, "A link there leads to what the job did not fill.")
        _empty_alone(path, occupied)
    except (DirectoryBusy, DirectoryRefused) as error:
        return _say_left(occupied, error.message)
    return None


def _empty_alone(path: Path, occupied: Occupied) -> None:
    # No bucket has a part in this: only the paths of a plan matter to a workspace.
    pairing = Pairing(bucket="", prefix="", local_path=path, kind=occupied.kind)
    workspace = Workspace(Plan(before=(pairing,)), {path: frozenset(occupied.found or ())})
    try:
        workspace.open()
        workspace.empty()
    finally:
        workspace.close()


def _say_left(occupied: Occupied, why: str) -> None:
    _log.warning("not_emptied", path=occupied.path, why=why)
