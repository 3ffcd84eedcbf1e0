"""Submitting: all or none, in order, and safe to repeat."""

from __future__ import annotations

import pytest

from kelpie.errors import IdempotencyMismatch
from kelpie.store import jobs
from kelpie.store.selection import Selection
from kelpie.store.submissions import Idempotency, Submitted, submit
from kelpie.store.sweep import forget_idempotency_keys
from tests.store.histories import World, new_job


async def _submit(
    world: World, *commands: str, key: str = "k", body: bytes = b"body", who: str = "user", route: str = "/r"
) -> Submitted:
    idempotency = Idempotency(route=route, key=key, body_hash=body)
    new = [new_job(command=command) for command in commands]
    return await submit(world.store.database, world.caller(who), new, idempotency)


async def test_jobs_come_back_in_the_order_of_the_request(world: World) -> None:
    """The caller may pair what it sent with what it got."""
    commands = [f"command-{number}" for number in range(50)]

    submitted = await _submit(world, *commands)

    assert [job.command for job in submitted.jobs] == commands


async def test_the_same_key_gives_the_same_jobs_again(world: World) -> None:
    """A request whose answer was lost may be sent again."""
    first = await _submit(world, "one", "two")
    world.ids["a"] = first.jobs[0].id
    await world.do("claim m1")

    again = await _submit(world, "one", "two")

    assert not first.is_replay
    assert again.is_replay
    assert [job.id for job in again.jobs] == [job.id for job in first.jobs]
    assert [job.status for job in again.jobs] == ["running", "pending"]


async def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    """That is a mistake, not a repetition."""
    await _submit(world, "one")

    with pytest.raises(IdempotencyMismatch):
        await _submit(world, "two", body=b"other")

    page = await jobs.page(world.store.database, world.caller(), Selection())
    assert [job.command for job in page.jobs] == ["one"]


async def test_keys_of_other_users_and_routes_are_other_keys(world: World) -> None:
    """Nobody learns of another user's key."""
    mine = await _submit(world, "one")

    theirs = await _submit(world, "one", who="other")
    elsewhere = await _submit(world, "one", route="/other")

    assert not theirs.is_replay
    assert not elsewhere.is_replay
    assert len({mine.jobs[0].id, theirs.jobs[0].id, elsewhere.jobs[0].id}) == 3


async def test_a_key_is_forgotten_after_a_day(world: World) -> None:
    """It may then be used for something else, and takes no room."""
    await _submit(world, "one")
    await world.do("stall 86399")
    assert (await _submit(world, "one")).is_replay

    await world.do("stall 1")
    again = await _submit(world, "two", body=b"other")
    await world.do("stall 86400")
    await forget_idempotency_keys(world.store.database)

    assert not again.is_replay
    assert world.store.database.one("SELECT count(*) FROM idempotency_keys") == (0,)


async def test_a_job_read_back_is_the_job_that_was_answered(world: World) -> None:
    """What the submission says and what a look says is one and the same."""
    submitted = await _submit(world, "one")

    assert jobs.job(world.store.database, world.caller(), submitted.jobs[0].id) == submitted.jobs[0]
