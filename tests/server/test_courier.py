"""The courier with real receivers: signed, in order, and nobody waits for anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from kelpie.outgoing import Outgoing
from kelpie.server.courier import Courier
from kelpie.store import webhooks
from kelpie.store.database import Database
from kelpie.store.outbox import Due, Try, settle
from kelpie.store.submissions import submit
from kelpie.store.writer import Order
from kelpie.webhook_contract import Delivery, WebhookChoice
from tests.server.receivers import Receiver
from tests.store.histories import World, new_job, replay


class Post:
    """A store, a courier that goes when it is told to, and a clock that tests move."""

    def __init__(self, world: World, courier: Courier) -> None:
        self.world = world
        self.courier = courier

    async def submit(self, name: str, url: str, **fields: Any) -> None:
        """Submit a job with a webhook."""
        new = [new_job(webhook=url, **fields)]
        done = await submit(self.world.store.database, self.world.caller(), new, None)
        self.world.ids[name] = done.jobs[0].id

    async def go(self) -> None:
        """Send until nothing is due, and wait for every answer."""
        await self.courier.step()
        while self.courier.under_way:
            await asyncio.gather(*self.courier.under_way)
            await self.courier.step()

    async def deliveries(self) -> list[Delivery]:
        """Read what became of every message, oldest first."""
        found = await webhooks.deliveries_of(
            self.world.store.database, self.world.caller(), job_id=None, page=1, page_size=1000
        )
        return found.deliveries[::-1]

    async def secret(self) -> str:
        """Read the user's secret."""
        return (await webhooks.settings_of(self.world.store.database, self.world.caller())).secret


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A new store that is open."""
    world = World(tmp_path / "kelpie.db")
    await world.open()
    yield world
    await world.close()


@pytest_asyncio.fixture
async def post(world: World) -> AsyncIterator[Post]:
    """A courier that may go to private addresses."""
    async with Outgoing(allow_private=True) as outgoing, asyncio.TaskGroup() as group:
        yield Post(world, Courier(world.store.database, outgoing, group))


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that is well."""
    async with Receiver() as receiver:
        yield receiver


async def test_every_message_is_signed_and_carries_what_the_user_chose(
    post: Post, receiver: Receiver
) -> None:
    """The standard's own library verifies it; the API key is nowhere."""
    choice = WebhookChoice(key="my own word")
    await webhooks.choose(post.world.store.database, post.world.caller(), choice)
    await post.submit("a", receiver.url)
    await replay(post.world, "claim m1\n completed a m1 1")

    await post.go()

    first, second = receiver.received
    for one in (first, second):
        one.verify(await post.secret())
        assert one.headers["x-kelpie-key"] == "my own word"
        assert one.headers["content-type"] == "application/json"
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    assert list(first.message) == [
        "status", "job_id", "machine_id", "container_group_id", "attempt", "timestamp", "reason",
    ]  # fmt: skip
    assert [one.state for one in await post.deliveries()] == ["delivered", "delivered"]
    assert (await post.deliveries())[0].answer == "noted"


async def test_without_a_chosen_key_none_is_sent(post: Post, receiver: Receiver) -> None:
    """An empty one would compare equal to somebody's mistake."""
    await post.submit("a", receiver.url)
    await post.world.do("claim m1")

    await post.go()

    assert "x-kelpie-key" not in receiver.received[0].headers


async def test_a_receiver_that_recovers_gets_everything_in_order(post: Post, receiver: Receiver) -> None:
    """Nothing of a job overtakes what failed before it; the id stays the same."""
    receiver.status = 503
    await post.submit("a", receiver.url)
    await replay(post.world, "claim m1\n completed a m1 1")
    await post.go()
    post.world.clock.pass_time(7000)
    await post.go()
    assert receiver.said == ["running", "running"]

    receiver.status = 204
    post.world.clock.pass_time(13_000)
    await post.go()

    assert receiver.said == ["running", "running", "running", "completed"]
    assert len({one.headers["webhook-id"] for one in receiver.received[:3]}) == 1
    assert [one.tries for one in await post.deliveries()] == [3, 1]


async def test_a_receiver_that_hangs_delays_nobody_else(post: Post, receiver: Receiver) -> None:
    """Few at a time go to one receiver, whatever waits for it."""
    async with Receiver() as hanging:
        hanging.is_open.clear()
        for number in range(20):
            await post.submit(f"slow{number}", hanging.url)
        await post.submit("quick", receiver.url)
        for number in range(21):
            await post.world.do(f"claim m{number}")

        await post.courier.step()
        await receiver.wait_for(1)

        held = await hanging.wait_for(4)
        assert len(held) == 4
        hanging.is_open.set()
        await post.go()
        assert len(hanging.received) == 20


async def test_a_redirect_is_not_followed(post: Post, receiver: Receiver) -> None:
    """It is a failure, with the reason where the user looks."""
    receiver.status = 307
    await post.submit("a", receiver.url)
    await post.world.do("claim m1")

    await post.go()

    (delivery,) = await post.deliveries()
    assert len(receiver.received) == 1
    assert (delivery.state, delivery.answer_status) == ("pending", 307)
    assert "redirects are not followed" in (delivery.error or "")


@pytest.mark.parametrize("url", ["not even a url", "http://"])
async def test_what_can_never_be_delivered_is_given_up_at_once(post: Post, url: str) -> None:
    """And the next message of the job has its turn, and the same fate."""
    await post.submit("a", url)
    await replay(post.world, "claim m1\n completed a m1 1")

    await post.go()

    assert [(one.state, one.tries) for one in await post.deliveries()] == [("given_up", 1)] * 2


async def test_a_receiver_that_is_gone_is_not_asked_again(post: Post, receiver: Receiver) -> None:
    """410 says so."""
    receiver.status = 410
    await post.submit("a", receiver.url)
    await post.world.do("claim m1")

    await post.go()

    assert [one.state for one in await post.deliveries()] == ["given_up"]


async def test_private_addresses_are_refused_unless_allowed(world: World, receiver: Receiver) -> None:
    """The reason is where the user looks."""
    async with Outgoing(allow_private=False) as outgoing, asyncio.TaskGroup() as group:
        post = Post(world, Courier(world.store.database, outgoing, group))
        await post.submit("a", receiver.url)
        await world.do("claim m1")
        await post.go()

        (delivery,) = await post.deliveries()
        assert not receiver.received
        assert "refused" in (delivery.error or "")


async def test_a_row_that_cannot_be_sent_stops_nothing(post: Post, receiver: Receiver) -> None:
    """It is an error of its own, and the others go out."""
    await post.submit("poisoned", receiver.url)
    await post.submit("good", receiver.url)
    await replay(post.world, "claim m1\n claim m2")
    spoil = "UPDATE webhook_deliveries SET url = char(0, 10), body = 'x' WHERE delivery_seq = 1"
    await post.world.store.database.write(Order.UPKEEP, lambda transaction: transaction.run(spoil))

    await post.go()

    assert receiver.said == ["running"]


async def test_a_result_that_cannot_be_written_is_not_sent_in_a_circle(
    post: Post, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The courier rests (not here), and then that one goes out once more: at least once."""
    failures: list[Due] = []

    async def fail_once(database: Database, sent: Due, outcome: Try) -> None:
        if not failures:
            failures.append(sent)
            raise OSError("disk full")
        await settle(database, sent, outcome)

    monkeypatch.setattr("kelpie.server.courier.settle", fail_once)
    monkeypatch.setattr("kelpie.server.courier._AFTER_A_FAULT_S", 0)
    await post.submit("a", receiver.url)
    await post.world.do("claim m1")

    await post.go()

    assert [one.delivery_id for one in failures] == [receiver.received[0].headers["webhook-id"]]
    assert [one.headers["webhook-id"] for one in receiver.received] == [(await post.deliveries())[0].id] * 2


async def test_nothing_that_is_sent_contains_an_api_key(post: Post, receiver: Receiver) -> None:
    """Nor is one in what is kept for sending."""
    await post.submit("a", receiver.url, environment={"TOKEN": "klp_of_the_job"})
    await post.world.do("claim m1")

    await post.go()

    raw = msgspec.json.encode(receiver.received) + msgspec.json.encode(await post.deliveries())
    assert b"klp_" not in raw
    assert b"an-admin-key-for-tests" not in raw
