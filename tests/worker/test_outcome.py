"""The outcome table, row by row, as the design has it."""

from __future__ import annotations

import signal

import pytest

from kelpie.lifecycle import NO_BAN, Outcome
from kelpie.worker.outcome import TABLE, Ended, Ending, Flush, Why, row_of

# Why it stopped, how the child ended; flush, upload `after`, report, reason, counts, bans.
DESIGN = [
    (Why.EXITED, Ended.ZERO, Flush.ALL, True, Outcome.COMPLETED, None, False, False),
    (Why.EXITED, Ended.NONZERO, Flush.ALL, False, Outcome.FAILED, "exit", True, True),
    (Why.EXITED, Ended.SIGNAL, Flush.ALL, False, Outcome.FAILED, "signal", True, True),
    (Why.SPAWN, None, Flush.NONE, False, Outcome.FAILED, "spawn", True, True),
    (Why.TIMEOUT, Ended.ZERO, Flush.STOPPED, False, Outcome.FAILED, "timeout", True, False),
    (Why.DOWNLOAD, None, Flush.NONE, False, Outcome.FAILED, "download", True, False),
    (Why.UPLOAD, Ended.ZERO, Flush.STOPPED, False, Outcome.FAILED, "upload", True, False),
    (Why.CANCELED, Ended.ZERO, Flush.STOPPED, False, None, None, False, False),
    (Why.NOTICE, Ended.ZERO, Flush.STOPPED, False, Outcome.INTERRUPTED, "notice", False, False),
    (Why.DRAIN, Ended.SIGNAL, Flush.STOPPED, False, Outcome.INTERRUPTED, "drain", False, False),
    (Why.WORKER_FAULT, None, Flush.STOPPED, False, Outcome.INTERRUPTED, "worker-fault", False, False),
    (Why.DIRECTORY_BUSY, None, Flush.NONE, False, Outcome.INTERRUPTED, "directory-busy", False, False),
    (Why.LEASE_LOST, Ended.NONZERO, Flush.NONE, False, None, None, False, False),
]


@pytest.mark.parametrize("line", DESIGN, ids=lambda line: f"{line[0]} {line[1]}")
def test_every_row_is_the_designs(line: tuple[object, ...]) -> None:
    """Why and exit decide flush, upload, report, counting and ban."""
    why, ended, *expected = line
    row = row_of(Why(str(why)), Ended(str(ended)) if ended else None)
    assert [row.flush, row.after, row.report, row.reason, row.counts, row.bans] == expected


def test_the_design_names_every_row_there_is() -> None:
    """A cause without a row, or a row nobody wrote down, would be decided elsewhere."""
    assert {line[0] for line in DESIGN} == {why for why, _ in TABLE} == set(Why)
    assert len(DESIGN) == len(TABLE)


@pytest.mark.parametrize("why", [why for why in Why if why is not Why.EXITED])
@pytest.mark.parametrize("ended", [None, *Ended])
def test_a_cause_to_stop_outweighs_any_exit_code(why: Why, ended: Ended | None) -> None:
    """Exit 0 is not completion once the worker has signalled."""
    assert row_of(why, ended) is TABLE[why, None]
    assert row_of(why, ended).report is not Outcome.COMPLETED


def test_what_counts_bans_unless_it_says_nothing_of_the_machine() -> None:
    """The table and rule 6 agree."""
    for row in TABLE.values():
        assert row.counts == (row.report is Outcome.FAILED)
        assert row.bans == (row.counts and row.reason not in NO_BAN)


def test_a_cancel_is_an_interrupt_and_all_else_a_termination() -> None:
    """Python scripts clean up on SIGINT, as under the original."""
    assert {why for (why, _), row in TABLE.items() if row.stop is signal.SIGINT} == {Why.CANCELED}


def test_the_first_cause_stands() -> None:
    """A notice that follows a time limit does not turn the failure into an interruption."""
    ending = Ending()
    ending.ask(Why.TIMEOUT, "too long")
    ending.ask(Why.NOTICE)
    assert (ending.why, ending.detail) == (Why.TIMEOUT, "too long")


def test_a_lost_right_to_go_on_beats_every_cause() -> None:
    """Nobody waits for the report of a job that is not ours any more."""
    ending = Ending()
    ending.ask(Why.NOTICE)
    ending.ask(Why.CANCELED)
    ending.ask(Why.LEASE_LOST)
    assert ending.why is Why.CANCELED
    assert ending.gone.is_set()


async def test_a_fault_of_the_workers_own_is_a_cause_to_stop() -> None:
    """It costs the job nothing."""
    ending = Ending()

    async def broken() -> None:
        raise RuntimeError("a bug")

    await ending.guarded(broken())
    assert ending.why is Why.WORKER_FAULT
    assert row_of(Why.WORKER_FAULT, None).report is Outcome.INTERRUPTED
