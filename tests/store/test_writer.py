"""The writer: what a batch promises when one of its operations, or the disk, fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kelpie.errors import KelpieError, NotFound, StorageFull, Unavailable
from kelpie.store.claims import Claim, claim
from kelpie.store.transaction import Transaction
from kelpie.store.writer import Order
from tests.store.histories import World, new_job, replay


def _add_user(name: str) -> Any:
    def operation(transaction: Transaction) -> str:
        transaction.run("INSERT INTO users (user_id, username, created) VALUES (?, ?, 0)", (name, name))
        return name

    return operation


def _refuse(transaction: Transaction) -> None:
    _add_user("never")(transaction)
    raise NotFound("Nothing there")


async def _users(world: World) -> set[str]:
    rows = await world.store.database.all("SELECT username FROM users WHERE username LIKE 'u-%'")
    return {name for (name,) in rows}


def _connection(world: World) -> Any:
    return world.store.database._connection  # noqa: SLF001 - the fault is injected where the disk is


def _fill_disk(world: World) -> None:
    (pages,) = _connection(world).execute("PRAGMA page_count").fetchone()
    _connection(world).execute(f"PRAGMA max_page_count = {pages}")


def _free_disk(world: World) -> None:
    _connection(world).execute("PRAGMA max_page_count = 1000000")


async def test_an_operation_that_fails_is_undone_alone(world: World) -> None:
    """The others of its batch happen all the same."""
    write = world.store.database.write

    answers = await asyncio.gather(
        write(Order.SUBMIT, _add_user("u-1")),
        write(Order.SUBMIT, _refuse),
        write(Order.SUBMIT, lambda transaction: transaction.run("INSERT INTO nonsense VALUES (1)")),
        write(Order.SUBMIT, _add_user("u-2")),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [str, NotFound, Unavailable, str]
    assert await _users(world) == {"u-1", "u-2"}


async def test_a_defect_in_an_operation_reaches_its_caller_only(world: World) -> None:
    """Whatever one operation raises, the writer goes on."""
    write = world.store.database.write

    answers = await asyncio.gather(
        write(Order.SUBMIT, lambda _: 1 / 0), write(Order.SUBMIT, _add_user("u-1")), return_exceptions=True
    )

    assert [type(answer) for answer in answers] == [ZeroDivisionError, str]


class _SlowDisk:
    """A connection whose COMMIT waits until it is let through."""

    def __init__(self, connection: Any) -> None:
        self._real = connection
        self.reached, self.goes_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, *parameters: Any) -> Any:
        """Run a statement."""
        if sql == "COMMIT":
            self.reached.set()
            self.goes_on.wait(5)
        return self._real.execute(sql, *parameters)


async def test_nobody_is_answered_before_the_commit_returned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody is woken: a 2xx means that it is on disk."""
    disk = _SlowDisk(_connection(world))
    monkeypatch.setattr(world.store.database._writer, "_connection", disk)  # noqa: SLF001 - where the disk is
    world.wakes.clear()
    submitted = asyncio.create_task(world.do("submit a"))
    await asyncio.to_thread(disk.reached.wait, 5)
    for _ in range(10):
        await asyncio.sleep(0)

    was_answered, was_woken = submitted.done(), bool(world.wakes)
    disk.goes_on.set()

    assert await submitted == "a"
    assert (was_answered, was_woken) == (False, False)
    assert world.wakes


async def test_a_number_too_large_for_the_database_reaches_its_caller_only(world: World) -> None:
    """An integer beyond 64 bits is an error of one operation."""
    write = world.store.database.write

    answers = await asyncio.gather(
        write(Order.SUBMIT, lambda transaction: transaction.one("SELECT ?", (2**70,))),
        write(Order.SUBMIT, _add_user("u-1")),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [OverflowError, str]


async def test_reports_are_applied_before_anything_that_takes_a_job_away(world: World) -> None:
    """Within a batch the order is reports, upkeep, submissions, claims, each first come first served."""
    done: list[str] = []

    def note(name: str) -> Callable[[Transaction], None]:
        return lambda _: done.append(name)

    orders = [(Order.CLAIM, "c"), (Order.SUBMIT, "s"), (Order.UPKEEP, "u"), (Order.REPORT, "r1"),
              (Order.REPORT, "r2")]  # fmt: skip

    await asyncio.gather(*(world.store.database.write(order, note(name)) for order, name in orders))

    assert done == ["r1", "r2", "u", "s", "c"]


async def test_a_heartbeat_that_arrives_with_a_claim_keeps_the_job(world: World) -> None:
    """Although the lease has run out, the sign of life in the same batch counts first."""
    await replay(world, "submit a heartbeat_interval=1\nclaim m1\nadvance 1\nstall 1")

    claimed, beat = await asyncio.gather(world.do("claim m2"), world.do("heartbeat a m1 1"))

    assert (claimed, beat) == ("nothing", "running")


async def test_a_heartbeat_behind_a_crowd_of_claims_keeps_the_job(world: World) -> None:
    """Also when there are more claims than one batch holds."""
    await replay(world, "submit a heartbeat_interval=1\nclaim m1\nadvance 1\nstall 1")

    *claimed, beat = await asyncio.gather(
        *(world.do(f"claim c{number}") for number in range(600)), world.do("heartbeat a m1 1")
    )

    assert set(claimed) == {"nothing"}
    assert beat == "running"


async def test_a_full_disk_fails_the_whole_batch_and_nothing_later(world: World) -> None:
    """Everybody in the batch hears 507; when there is room again all is well."""
    write = world.store.database.write
    _fill_disk(world)

    answers = await asyncio.gather(
        write(Order.REPORT, _add_user("u-1")),
        write(Order.SUBMIT, lambda transaction: transaction.run("CREATE TABLE big AS SELECT zeroblob(9999)")),
        write(Order.SUBMIT, _add_user("u-2")),
        return_exceptions=True,
    )
    _free_disk(world)
    await write(Order.SUBMIT, _add_user("u-3"))

    assert [type(answer) for answer in answers] == [StorageFull] * 3
    assert await _users(world) == {"u-3"}
    assert not world.fatal


async def test_leases_are_not_lost_while_the_disk_is_full(world: World) -> None:
    """Heartbeats that could not be written are the server's fault, however long it takes."""
    await replay(world, "submit a heartbeat_interval=5\nclaim m1")
    fill = "CREATE TABLE big AS SELECT zeroblob(99999)"
    _fill_disk(world)

    for _ in range(60):
        world.clock.pass_time(1000)
        with pytest.raises(StorageFull):
            await world.store.database.write(Order.SUBMIT, lambda transaction: transaction.run(fill))
    _free_disk(world)

    _, happened = await replay(world, "claim m2 ->\nheartbeat a m1 1 ->\noutcomes a ->")
    assert happened == ["claim m2 -> nothing", "heartbeat a m1 1 -> running", "outcomes a -> live"]


async def test_a_fault_before_the_first_operation_fails_the_batch_and_not_the_writer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a defect in what precedes a batch leaves callers waiting for ever."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    prelude = world.store.database._writer._prelude  # noqa: SLF001 - no other way to reach it
    monkeypatch.setattr(prelude, "extend", broken)
    world.clock.pass_time(60_000)
    with pytest.raises(KelpieError):
        await asyncio.wait_for(world.store.database.write(Order.SUBMIT, _add_user("u-1")), 5)
    monkeypatch.undo()

    await asyncio.wait_for(world.store.database.write(Order.SUBMIT, _add_user("u-2")), 5)

    assert await _users(world) == {"u-2"}


async def test_nobody_claims_for_a_client_that_went_away(world: World) -> None:
    """A claim that was canceled before its batch began takes no job."""
    await world.do("submit a")
    asked = Claim(machine_id="m1", container_group_id="g", version="1")
    store = world.store
    task = asyncio.create_task(claim(store.database, world.caller(), store.policy, store.polls, asked))
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.wait([task])

    assert await world.do("claim m2") == "a 1"


async def test_a_report_is_carried_out_although_its_client_went_away(world: World) -> None:
    """What a worker said counts, heard or not."""
    await replay(world, "submit a\nclaim m1")
    task = asyncio.create_task(world.do("completed a m1 1"))
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.wait([task])

    assert await world.do("heartbeat a m2") == "completed"


async def test_an_operation_that_is_undone_wakes_nobody_and_does_not_count_as_a_sweep(world: World) -> None:
    """Claims of the same batch look at leases themselves."""
    await replay(world, "submit a heartbeat_interval=1\nclaim m1\nadvance 1\nstall 1")
    world.wakes.clear()

    def sweep_and_fail(transaction: Transaction) -> None:
        from kelpie.store.sweep import sweep

        sweep(transaction)
        raise NotFound("Nothing there")

    _, claimed = await asyncio.gather(
        world.store.database.write(Order.UPKEEP, sweep_and_fail), world.do("claim m2"), return_exceptions=True
    )

    assert claimed == "a 2"


async def test_many_submissions_at_once_are_all_there(world: World) -> None:
    """More operations than one batch holds are spread over several."""
    from kelpie.store.submissions import submit

    caller, database = world.caller(), world.store.database

    await asyncio.gather(*(submit(database, caller, [new_job()], None) for _ in range(700)))

    assert database.one("SELECT count(*) FROM jobs") == (700,)


async def test_closing_finishes_what_is_waiting(world: World) -> None:
    """What was accepted before the server went down is on disk."""
    writes = [
        asyncio.create_task(world.store.database.write(Order.SUBMIT, _add_user(f"u-{number}")))
        for number in range(300)
    ]
    await asyncio.sleep(0)

    await world.close()

    assert {await write for write in writes} == {f"u-{number}" for number in range(300)}
    await world.open()
    assert len(await _users(world)) == 300


async def test_a_closed_store_refuses_writes(world: World) -> None:
    """The answer says that the server goes down, not that something broke."""
    write = world.store.database.write
    await world.close()

    with pytest.raises(Unavailable):
        await write(Order.SUBMIT, _add_user("u-1"))

    await world.open()
