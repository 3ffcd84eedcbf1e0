"""Webhook messages are written with the change they tell of, for those who want them."""

from __future__ import annotations

from typing import Any

import pytest

from kelpie.contract import JobSpec
from kelpie.errors import NotFound
from kelpie.store import outbox, webhooks
from kelpie.store.outbox import Due, Try, due, prune, settle
from kelpie.store.submissions import submit
from kelpie.store.transaction import WEBHOOKS_KEY
from kelpie.webhook_contract import Deliveries, WebhookChoice
from tests.store.histories import World, new_job, replay

_DAY_S = 86_400


async def _submit(world: World, name: str, **fields: Any) -> None:
    fields = {"webhook": "http://hook.test/", **fields}
    done = await submit(world.store.database, world.caller(), [new_job(**fields)], None)
    world.ids[name] = done.jobs[0].id


async def _deliveries(world: World, who: str = "user") -> Deliveries:
    return await webhooks.deliveries_of(
        world.store.database, world.caller(who), job_id=None, page=1, page_size=100
    )


async def _said(world: World) -> list[str]:
    found = await _deliveries(world)
    return [f"{one.message.status} {one.message.attempt}" for one in reversed(found.deliveries)]


async def _due(world: World) -> list[Due]:
    return await due(world.store.database, flying=(), full=(), room=100, per_origin=100)


HISTORIES: dict[str, tuple[list[str] | None, str, list[str]]] = {
    "completed": (None, "claim m1\n completed a m1 1", ["running 1", "completed 1"]),
    "completed twice": (
        None,
        "claim m1\n completed a m1 1\n completed a m1 1",
        ["running 1", "completed 1"],
    ),
    "failed with tries left": (
        None,
        "claim m1\n failed a m1 1\n advance 400\n claim m2",
        ["running 1", "running 2"],
    ),
    "failed for good": (
        None,
        "claim m1\n failed a m1 1\n advance 400\n claim m2\n failed a m2 2",
        ["running 1", "running 2", "failed 2"],
    ),
    "by default no interruption": (None, "claim m1\n interrupted a m1 1", ["running 1"]),
    "by default no cancel": (None, "claim m1\n cancel a", ["running 1"]),
    "interrupted": (["interrupted"], "claim m1\n interrupted a m1 1", ["interrupted 1"]),
    "lost": (["interrupted"], "claim m1\n advance 61", ["interrupted 1"]),
    "given back after it was lost": (
        ["interrupted"],
        "claim m1\n advance 61\n interrupted a m1 1",
        ["interrupted 1"],
    ),
    "canceled while running": (["canceled"], "claim m1\n cancel a\n cancel a", ["canceled 1"]),
    "canceled while pending": (["canceled"], "cancel a", ["canceled 0"]),
    "reported from outside": (None, "completed a m9", ["completed 0"]),
    "nothing wanted": ([], "claim m1\n completed a m1 1", []),
    "claimed again by the same claim": (None, "claim m1 claim_id=c\n claim m1 claim_id=c", ["running 1"]),
    "late reports": (
        None,
        "claim m1\n advance 61\n claim m2\n completed a m1 1",
        ["running 1", "running 2"],
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
async def test_a_webhook_hears_what_it_wants_once(world: World, name: str) -> None:
    """Each change of state, if named; by default claims, completion and the final failure."""
    events, history, expected = HISTORIES[name]
    await _submit(world, "a", webhook_events=events, max_failures=2)

    await replay(world, history)

    assert await _said(world) == expected


async def test_a_message_says_who_did_what_to_which_job(world: World) -> None:
    """The four fields of the original first."""
    await _submit(world, "a", max_failures=1)
    await replay(world, "claim m1\n failed a m1 1 reason=upload")

    found = await _due(world)
    newest = (await _deliveries(world)).deliveries[0]

    assert found[0].body.startswith(
        f'{{"status":"running","job_id":"{world.ids["a"]}","machine_id":"m1","container_group_id":"g"'
    )
    message = newest.message
    assert (message.status, message.machine_id, message.attempt, message.reason) == (
        "failed", "m1", 1, "upload",
    )  # fmt: skip
    assert message.timestamp == newest.created


async def test_a_job_without_a_webhook_costs_its_claim_no_statement(world: World) -> None:
    """The row says that there is nobody to tell."""
    await replay(world, "submit a\n submit b")
    statements: list[str] = []
    world.store.database._connection.set_trace_callback(statements.append)  # noqa: SLF001 - its statements are the point
    await replay(world, "claim m1\n completed a m1 1")
    world.store.database._connection.set_trace_callback(None)  # noqa: SLF001 - its statements are the point

    assert statements
    assert not [one for one in statements if "INTO webhook_" in one or "FROM webhook_" in one]
    assert await _said(world) == []


async def test_messages_of_a_job_take_turns_and_those_of_others_do_not_wait(world: World) -> None:
    """The second is due once the first has ended, delivered or given up."""
    await _submit(world, "a")
    await _submit(world, "b")
    await replay(world, "claim m1\n completed a m1 1\n claim m2")
    first = await _due(world)
    assert [one.body.split('"')[3] for one in first] == ["running", "running"]

    await settle(world.store.database, first[0], Try(is_delivered=False, status=500, error="x"))
    assert [one.delivery_seq for one in await _due(world)] == [first[1].delivery_seq]
    world.clock.pass_time(7000)
    again = await _due(world)
    await settle(world.store.database, again[-1], Try(is_delivered=True, status=200))

    assert again[-1].delivery_id == first[0].delivery_id
    assert [one.body.split('"')[3] for one in await _due(world)] == ["running", "completed"]


async def test_a_message_is_tried_for_about_a_day_and_then_given_up(world: World) -> None:
    """With growing pauses; then the next one of the job has its turn."""
    await _submit(world, "a")
    await replay(world, "claim m1\n completed a m1 1")
    pauses = []
    for _ in range(outbox.MAX_TRIES):
        waited = 0
        while not (found := await _due(world)):
            world.clock.pass_time(1000 if waited < 100 else 60_000)
            waited += 1 if waited < 100 else 60
        pauses.append(waited)
        await settle(world.store.database, found[0], Try(is_delivered=False, error="away"))

    newest, oldest = (await _deliveries(world)).deliveries
    assert 0.75 * _DAY_S < sum(pauses) < 1.25 * _DAY_S
    assert pauses[1] < pauses[4] < pauses[8] < pauses[12]
    assert (oldest.state, oldest.tries, oldest.error) == ("given_up", outbox.MAX_TRIES, "away")
    assert (newest.state, newest.tries) == ("pending", 0)
    assert newest.next_try is not None


async def test_the_commit_wakes_the_courier(world: World) -> None:
    """Nobody waits for the next look."""
    await _submit(world, "a")
    world.wakes.clear()

    await world.do("claim m1")

    assert WEBHOOKS_KEY in [wake.key for wake in world.wakes]


async def test_a_receiver_with_many_waiting_does_not_hide_another(world: World) -> None:
    """Each gets its share, however long the other's row."""
    for number in range(30):
        await _submit(world, f"slow{number}", webhook="http://slow.test/")
    await _submit(world, "quick", webhook="http://quick.test/")
    for number in range(31):
        await world.do(f"claim m{number}")

    found = await due(world.store.database, flying=(), full=(), room=10, per_origin=2)
    others = await due(world.store.database, flying=(), full=["http://slow.test:"], room=10, per_origin=2)

    assert sorted(one.url for one in found) == ["http://quick.test/", *["http://slow.test/"] * 2]
    assert [one.url for one in others] == ["http://quick.test/"]


async def test_jobs_that_name_no_webhook_have_the_user_s_own(world: World) -> None:
    """From the moment it is chosen, and not for other users."""
    await world.do("submit before")
    choice = WebhookChoice(key="k", url="http://default.test/")
    await webhooks.choose(world.store.database, world.caller(), choice)
    await _submit(world, "named")
    await replay(world, "submit after\n submit theirs by=other\n claim m1\n claim m2\n claim m3")
    await world.do("claim m4 by=other")

    urls = [one.url for one in (await _deliveries(world)).deliveries]
    assert sorted(urls) == ["http://default.test/", "http://hook.test/"]
    assert not (await _deliveries(world, "other")).deliveries


async def test_a_message_can_be_sent_again_by_its_owner(world: World) -> None:
    """With the same id; to others it does not exist."""
    await _submit(world, "a")
    await world.do("claim m1")
    sent = (await _due(world))[0]
    await settle(world.store.database, sent, Try(is_delivered=True, status=200))
    assert not await _due(world)

    with pytest.raises(NotFound):
        await webhooks.resend(world.store.database, world.caller("other"), sent.delivery_id)
    await webhooks.resend(world.store.database, world.caller(), sent.delivery_id)

    assert [one.delivery_id for one in await _due(world)] == [sent.delivery_id]


async def test_deliveries_that_ended_are_forgotten_after_thirty_days(world: World) -> None:
    """Those still to be sent are not."""
    await _submit(world, "a")
    await replay(world, "claim m1\n completed a m1 1")
    await settle(world.store.database, (await _due(world))[0], Try(is_delivered=True, status=200))

    world.clock.pass_time(29 * _DAY_S * 1000)
    await prune(world.store.database)
    assert len((await _deliveries(world)).deliveries) == 2
    world.clock.pass_time(2 * _DAY_S * 1000)
    await prune(world.store.database)

    assert [one.state for one in (await _deliveries(world)).deliveries] == ["pending"]


async def test_a_clock_that_jumps_does_not_delay_a_retry(world: World) -> None:
    """Retries are on the lease clock, which moves with what it measures."""
    await _submit(world, "a")
    await world.do("claim m1")
    await settle(world.store.database, (await _due(world))[0], Try(is_delivered=False, error="x"))

    await replay(world, "wall -86400\n sweep")
    world.clock.pass_time(7000)

    assert len(await _due(world)) == 1


def test_a_job_without_webhook_wants_nothing() -> None:
    """Whatever events it names; an empty text is no webhook."""
    for webhook in (None, ""):
        spec = JobSpec(command="c", container_group_id="g", webhook=webhook, webhook_events=["running"])
        assert outbox.wanted(spec, has_default=False) == 0
        assert outbox.wanted(spec, has_default=True) == 1


async def test_a_job_that_failed_because_another_did_tells_its_webhook(world: World) -> None:
    """Whoever waits for the end of a chain hears of it."""
    await _submit(world, "a", webhook=None, max_failures=1)
    await _submit(world, "b", after=[world.ids["a"]])
    expected, happened = await replay(
        world, "claim m1 -> a 1\n failed a m1 1 -> applied\n status b -> failed"
    )

    assert happened == expected
    assert await _said(world) == ["failed 0"]
