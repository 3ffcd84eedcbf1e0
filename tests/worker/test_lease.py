"""The lease as its holder sees it: the deadline, the fence, and what each answer means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from kelpie.client import Client
from kelpie.contract import Job
from kelpie.worker.clock import boottime
from kelpie.worker.home import Machine
from kelpie.worker.lease import Lease, own_deadline
from kelpie.worker.outcome import Ending, Why
from kelpie.worker.race import unless
from tests.worker.scripted import KEY, Coordinator, eventually, python_job


@pytest.mark.parametrize(
    ("interval", "lasts_s"), [(1, 1.5), (2, 3.5), (2.5, 4.5), (10, 18.0), (30, 54.0), (3600, 6480.0)]
)
def test_the_own_deadline_leaves_a_margin_of_a_tenth_or_half_a_second(
    interval: float, lasts_s: float
) -> None:
    """Counted from sending: the server renewed at some time after that."""
    assert own_deadline(1000.0, interval) == pytest.approx(1000.0 + lasts_s)


def lease_on(client: Client, ending: Ending, **fields: object) -> Lease:
    job = msgspec.convert(python_job("", **fields), Job)
    return Lease(client, job, Machine("machine-1", "default"), ending)


async def test_nothing_may_be_written_before_the_first_accepted_heartbeat(coordinator: Coordinator) -> None:
    """Nobody knows how old the claim is."""
    async with Client(coordinator.url, KEY, patience_s=0) as client:
        ending = Ending()
        lease = lease_on(client, ending)
        assert not lease.fence.is_open
        await _until(lambda: lease.fence.is_open, lease, ending)


async def test_the_fence_shuts_at_the_deadline_and_opens_with_the_next_accepted_heartbeat(
    coordinator: Coordinator,
) -> None:
    """A server that is away costs writing, not the work."""
    async with Client(coordinator.url, KEY, patience_s=0) as client:
        ending = Ending()
        lease = lease_on(client, ending)
        await _until(lambda: lease.fence.is_open, lease, ending)
        coordinator.failing["heartbeat"] = 503
        await _until(lambda: not lease.fence.is_open, lease, ending)
        assert boottime() >= lease.deadline
        del coordinator.failing["heartbeat"]
        await _until(lambda: lease.fence.is_open, lease, ending)
        assert ending.why is None


@pytest.mark.parametrize(
    ("status", "why"), [("canceled", Why.CANCELED), ("running", Why.LEASE_LOST), ("pending", Why.LEASE_LOST)]
)
async def test_a_refused_heartbeat_says_whether_the_job_was_canceled_or_lost(
    coordinator: Coordinator, status: str, why: Why
) -> None:
    """The child of a canceled job is stopped another way, and its checkpoint still stored."""
    coordinator.lose(status)
    async with Client(coordinator.url, KEY, patience_s=0) as client:
        ending = Ending()
        await lease_on(client, ending).renew()
    assert ending.why is why


async def test_a_lost_lease_never_opens_the_fence_again(coordinator: Coordinator) -> None:
    """Whoever holds the job now writes there."""
    async with Client(coordinator.url, KEY, patience_s=0) as client:
        ending = Ending()
        lease = lease_on(client, ending)
        await _until(lambda: lease.fence.is_open, lease, ending)
        coordinator.lose("running")
        await _until_lost(lease, ending)
        assert not lease.fence.is_open
        assert not lease.is_valid()


async def test_the_original_server_is_never_asked_for_a_signal(original: Coordinator) -> None:
    """It has no such route."""
    async with Client(original.url, KEY, patience_s=0) as client:
        await lease_on(client, Ending(), attempt=0).listen()
    assert original.signals == 0


async def test_a_server_without_the_signal_route_is_asked_once(original: Coordinator) -> None:
    """Heartbeats tell anyway."""
    async with Client(original.url, KEY, patience_s=0) as client:
        await lease_on(client, Ending()).listen()


async def _until(condition: Callable[[], object], lease: Lease, ending: Ending) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lease.renew()), group.create_task(lease.guard())]
        await eventually(condition)
        for task in tasks:
            task.cancel()
    assert ending.why is None


async def _until_lost(lease: Lease, ending: Ending) -> None:
    await unless(ending.gone, lease.renew())
    await ending.gone.wait()
