"""Which job a claim gets, and when a job may be had at all."""

from __future__ import annotations

import pytest

from kelpie.store.transaction import group_key
from tests.store.histories import World, replay

HISTORIES = {
    "the highest priority comes first, then the oldest": """
        submit low priority=-1
        submit old
        submit new
        submit high priority=5
        claim m1                                -> high 1
        claim m1                                -> old 1
        claim m1                                -> new 1
        claim m1                                -> low 1
        claim m1                                -> nothing
    """,
    "a machine gets jobs of the group it asks for only": """
        submit a group=one
        submit b group=two
        claim m1 group=two                      -> b 1
        claim m1 group=two                      -> nothing
        claim m1 group=one                      -> a 1
    """,
    "a machine gets jobs of its key's user only": """
        submit a
        claim m1 by=other                       -> nothing
        submit b by=other
        claim m1 by=other                       -> b 1
        claim m1 by=worker                      -> a 1
    """,
    "a job is not handed out before its hour": """
        submit a run_at="2023-11-14T22:15:00Z"
        claim m1                                -> nothing
        advance 99
        claim m1                                -> nothing
        advance 1
        claim m1                                -> a 1
    """,
    "the hour of a job is wall time": """
        submit a run_at="2023-11-14T22:15:00Z"
        wall 100
        sweep
        claim m1                                -> a 1
    """,
    "an hour that has passed is no hindrance": """
        submit a run_at="1965-01-01T00:00:00Z"
        submit b run_at="2020-01-01"
        claim m1                                -> a 1
        claim m1                                -> b 1
    """,
    "a job that nobody may have yet does not hold up the next": """
        submit a run_at="2033-01-01T00:00:00Z" priority=9
        submit b retry_delay_s=100 priority=5
        claim m1                                -> b 1
        failed b m1 1                           -> applied
        submit c
        claim m2                                -> c 1
    """,
    "a machine is offered the next job when it is banned from the first": """
        submit a retry_delay_s=0
        submit b
        claim m1                                -> a 1
        failed a m1 1                           -> applied
        claim m1                                -> b 1
        claim m2                                -> a 2
    """,
    "one machine may hold many jobs": """
        submit a
        submit b
        claim m1                                -> a 1
        claim m1                                -> b 1
        completed b m1 1                        -> applied
        completed a m1 1                        -> applied
    """,
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
async def test_selection(world: World, history: str) -> None:
    """Each history is a promise about who gets which job."""
    expected, happened = await replay(world, history)

    assert happened == expected


@pytest.mark.parametrize(
    "history",
    [
        "submit a",
        "submit a heartbeat_interval=1\nclaim m1\nCLEAR\nadvance 2",
        "submit a\nclaim m1\nCLEAR\ninterrupted a m1 1",
        "submit a retry_delay_s=5\nclaim m1\nfailed a m1 1\nCLEAR\nadvance 6",
        'submit a run_at="2023-11-14T22:15:00Z"\nCLEAR\nadvance 100',
        "submit a retry_delay_s=5\nclaim m1\ninterrupted a m1 1\nCLEAR\nadvance 6",
    ],
    ids=["submitted", "lease lost", "given back", "delay over", "hour come", "no longer held off"],
)
async def test_whoever_waits_is_woken_when_a_job_becomes_claimable(world: World, history: str) -> None:
    """Every way of becoming claimable leaves a wake for the group."""
    before, _, after = history.partition("\nCLEAR\n")
    await replay(world, before)
    if after:
        world.wakes.clear()
        await replay(world, after)

    assert group_key(11, "g") in [wake.key for wake in world.wakes]


@pytest.mark.parametrize("kind", ["delay", "hour", "lease"])
async def test_a_crowd_that_is_due_at_once_is_freed_in_steps(world: World, kind: str) -> None:
    """No single batch takes long, and all are free in the end."""
    fields = 'run_at="2023-11-14T22:13:25Z"' if kind == "hour" else "retry_delay_s=5 heartbeat_interval=1"
    for number in range(250):
        await world.do(f"submit {number} {fields}")
        if kind != "hour":
            await world.do("claim m1")
        if kind == "delay":
            await world.do(f"failed {number} m1 1")

    await world.do("stall 1.9")
    await world.do("sweep")
    world.clock.pass_time(1900)
    if kind != "lease":
        await world.do("sweep")
        world.clock.pass_time(1900)

    await world.do("sweep")
    after_one = await _claimable(world)
    await world.do("sweep")

    assert 0 < after_one < 250
    assert await _claimable(world) == 250


async def _claimable(world: World) -> int:
    row = world.store.database.one(
        "SELECT count(*) FROM jobs WHERE status = 'pending' AND not_before = 0 AND run_at = 0"
    )
    assert row is not None
    return int(row[0])
