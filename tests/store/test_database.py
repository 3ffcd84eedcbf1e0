"""The file: what is refused, what is locked, and which index answers which question."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from kelpie.errors import StoreError, Unavailable
from kelpie.store import claims
from kelpie.store.transaction import Transaction
from kelpie.store.writer import Order
from tests.store.histories import World, replay


async def test_a_second_server_is_refused_and_told_who_has_the_file(world: World) -> None:
    """Two writers would corrupt the file."""
    with pytest.raises(StoreError, match=rf"process {os.getpid()}.*Stop it first"):
        await World(world.path).open()


async def test_a_closed_database_may_be_opened_again(world: World) -> None:
    """The lock is given back and everything is still there."""
    await replay(world, "submit a\nclaim m1\ncompleted a m1 1\nrestart")

    assert world.job("a").status == "completed"


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    """The message names the file and what to do."""
    path = tmp_path / "kelpie.db"
    path.write_bytes(b"this is a letter to my aunt" * 100)

    with pytest.raises(StoreError, match="not a Kelpie database or is damaged"):
        await World(path).open()

    assert path.read_bytes() == b"this is a letter to my aunt" * 100


async def test_a_damaged_database_is_refused(world: World) -> None:
    """A file whose first page was overwritten is not guessed at."""
    await world.close()
    with world.path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)

    with pytest.raises(StoreError, match="damaged"):
        await world.open()

    world.path.unlink()
    await world.open()


@pytest.mark.parametrize("table", ["users", "letters", "_sqlite_migrations"])
async def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, table: str) -> None:
    """Kelpie adds no tables to somebody else's file."""
    path = tmp_path / "kelpie.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table} (migration_set TEXT)")
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(StoreError, match="another program"):
        await World(path).open()

    assert path.read_bytes() == before


async def test_a_database_of_a_newer_kelpie_is_refused(world: World) -> None:
    """An older program would not know what the newer one promised."""
    await world.store.database.write(
        Order.SUBMIT,
        lambda transaction: transaction.run(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('kelpie', '9999_tomorrow', 'now')"
        ),
    )
    await world.close()

    with pytest.raises(StoreError, match="9999_tomorrow"):
        await world.open()

    with sqlite3.connect(world.path) as connection:
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = '9999_tomorrow'")
    connection.close()
    await world.open()


async def test_a_refused_file_can_be_opened_once_it_is_mended(tmp_path: Path) -> None:
    """A refusal gives the lock back."""
    path = tmp_path / "kelpie.db"
    path.write_bytes(b"rubbish" * 1000)
    world = World(path)
    with pytest.raises(StoreError):
        await world.open()
    path.unlink()

    await world.open()

    await world.close()


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The message says what to check."""
    with pytest.raises(StoreError, match="Check that the directory exists"):
        await World(tmp_path / "missing" / "kelpie.db").open()


async def test_the_file_is_the_owners_alone(world: World) -> None:
    """Jobs carry secrets in their environment."""
    for path in (world.path, world.path.with_name("kelpie.db.lock"), world.path.with_name("kelpie.db-wal")):
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("status", ["completed", "failed", "canceled"])
async def test_the_database_itself_keeps_ended_jobs_ended(world: World, status: str) -> None:
    """Whatever a statement says, only a retry that counts itself leaves a final state."""
    await world.do("submit a")
    await _update(world, f"status = '{status}'")

    for move in ("pending", "canceled", "failed", "completed"):
        if move != status:
            with pytest.raises(Unavailable, match="stays ended"):
                await _update(world, f"status = '{move}'")

    assert world.job("a").status == status


async def test_a_retry_that_counts_itself_reopens_failed_and_canceled_jobs(world: World) -> None:
    """Nothing else does, and nothing reopens a completed one."""
    for status, reopened in (("failed", True), ("canceled", True), ("completed", False)):
        await world.do(f"submit {status}")
        await _update(world, f"status = '{status}'", status)

        try:
            await _update(world, "status = 'pending', retries = retries + 1", status)
        except Unavailable:
            assert not reopened

        assert (world.job(status).status == "pending") is reopened


async def test_an_attempt_number_never_goes_back(world: World) -> None:
    """It is the fencing token."""
    await replay(world, "submit a\nclaim m1")

    with pytest.raises(Unavailable, match="never goes back"):
        await _update(world, "attempt = attempt - 1")


@pytest.mark.parametrize("query", ["_UNBANNED", "_BANNED_ALONE"])
async def test_a_claim_reads_its_own_index_in_order(world: World, query: str) -> None:
    """No sorting and no scan, however many jobs wait."""
    plan = _plan(world, getattr(claims, query))

    assert "SEARCH candidate USING INDEX jobs_claimable (group_seq=?)" in plan
    assert not [line for line in plan if "TEMP B-TREE" in line or line.startswith("SCAN")]


async def test_upkeep_reads_only_what_is_due(world: World) -> None:
    """Each of its steps has a partial index."""
    statements: list[str] = []
    connection = world.store.database._connection  # noqa: SLF001 - to see what is really run
    connection.set_trace_callback(statements.append)
    await world.do("sweep")
    connection.set_trace_callback(None)

    steps = [text for text in statements if text.strip().startswith(("UPDATE", "SELECT"))]
    plans = [line for text in steps for line in _plan(world, text)]

    assert len(steps) == 6
    assert not [line for line in plans if "SCAN" in line or "TEMP B-TREE" in line]
    for index in ("jobs_leased", "jobs_overdue", "jobs_delayed", "jobs_scheduled", "bans_ending"):
        assert any(index in line for line in plans), index


async def _update(world: World, what: str, name: str = "a") -> None:
    job_id = world.ids[name]

    def operation(transaction: Transaction) -> None:
        transaction.run(f"UPDATE jobs SET {what} WHERE job_id = ?", (job_id,))

    await world.store.database.write(Order.SUBMIT, operation)


def _plan(world: World, sql: str) -> list[str]:
    names = ("group_seq", "machine_id", "now", "ban_window_ms")
    values: dict[str, Any] = dict.fromkeys(names, 1)
    connection = world.store.database._connection  # noqa: SLF001 - a read-only look at the planner
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
