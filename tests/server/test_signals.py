"""Who is woken by what: one job wakes one waiter, and no wake is lost."""

from __future__ import annotations

import asyncio

import pytest

from kelpie.server import upkeep
from kelpie.server.waiting import Signals
from kelpie.store.transaction import Wake

GROUP = ("group", 1, "g")
JOB = ("job", "a")


@pytest.fixture
def signals() -> Signals:
    """Nobody waits yet."""
    return Signals(limit=100)


async def test_a_wake_before_the_wait_counts(signals: Signals) -> None:
    """Between the look and the wait nothing is missed."""
    with signals.waiter(GROUP) as waiter:
        signals.fire([Wake(GROUP)])

        assert await waiter.wait(10)


async def test_a_wake_in_the_very_moment_the_time_is_over_counts(signals: Signals) -> None:
    """Otherwise the job it was for would wait for the next poll."""
    loop = asyncio.get_running_loop()
    with signals.waiter(GROUP) as waiter:
        # Both timers are due in the same turn of the loop, the wake first.
        loop.call_later(0.01, signals.fire, [Wake(GROUP)])
        waiting = asyncio.create_task(waiter.wait(0.0101))
        await asyncio.sleep(0)
        _block_the_loop(0.05)

        assert await waiting


def _block_the_loop(seconds: float) -> None:
    import time

    time.sleep(seconds)


async def test_one_job_wakes_the_one_who_waited_longest(signals: Signals) -> None:
    """And a job that changed wakes all of its own."""
    with signals.waiter(GROUP) as first, signals.waiter(GROUP) as second:
        signals.fire([Wake(GROUP)])
        assert await first.wait(1)
        assert not await second.wait(0)
    with signals.waiter(JOB) as first, signals.waiter(JOB) as second:
        signals.fire([Wake(JOB)])
        assert await first.wait(1)
        assert await second.wait(1)


async def test_a_wake_is_passed_on_to_each_once(signals: Signals) -> None:
    """Nobody can use it: it goes round and ends, even if all wait again."""
    with signals.waiter(GROUP) as first, signals.waiter(GROUP) as second:
        signals.fire([Wake(GROUP)])
        first.pass_on()
        with signals.waiter(GROUP) as first_again:
            assert await second.wait(1)
            second.pass_on()

            assert not await first_again.wait(0)


async def test_a_wake_that_was_passed_on_is_not_used_twice(signals: Signals) -> None:
    """Whoever passed it on passes it on once."""
    with signals.waiter(GROUP) as first, signals.waiter(GROUP) as second, signals.waiter(GROUP) as third:
        signals.fire([Wake(GROUP)])
        first.pass_on()
        first.pass_on()

        assert await second.wait(1)
        assert not await third.wait(0)


async def test_who_is_canceled_leaves_its_wake_to_the_next(signals: Signals) -> None:
    """Its client went away; the job is still there."""

    async def wait_and_be_canceled() -> None:
        with signals.waiter(GROUP):
            await asyncio.Event().wait()

    canceled = asyncio.create_task(wait_and_be_canceled())
    await asyncio.sleep(0)
    with signals.waiter(GROUP) as next_one:
        signals.fire([Wake(GROUP)])
        canceled.cancel()

        assert await next_one.wait(1)


async def test_closing_answers_everybody(signals: Signals) -> None:
    """And whoever comes later need not wait."""
    with signals.waiter(GROUP) as one, signals.waiter(JOB) as other:
        signals.close()

        assert await one.wait(1)
        assert await other.wait(1)
        with signals.waiter(GROUP) as late:
            assert not late.may_wait


async def test_nobody_is_remembered_who_left(signals: Signals) -> None:
    """However many came and went."""
    for _ in range(200):
        with signals.waiter(GROUP) as waiter:
            signals.fire([Wake(GROUP)])
            waiter.pass_on()

    with signals.waiter(GROUP) as waiter:
        assert waiter.may_wait
    assert not signals._waiters  # noqa: SLF001 - a leak shows nowhere else


async def test_no_defect_of_one_step_stops_upkeep() -> None:
    """The next round may well succeed."""
    rounds = 0
    enough = asyncio.Event()

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            enough.set()
        raise ZeroDivisionError

    loop = asyncio.create_task(upkeep._loop(0, step))  # noqa: SLF001 - the loop itself is the promise
    async with asyncio.timeout(5):
        await enough.wait()

    assert not loop.done()
    loop.cancel()
