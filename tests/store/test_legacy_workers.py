"""What a legacy worker gets: each line of the table in the life of a job, and reports from outside."""

from __future__ import annotations

import pytest

from tests.store.histories import World, replay

HISTORIES = {
    "heartbeat by the holder renews": """
        submit a heartbeat_interval=1
        claim m1 version=                       -> a 1
        advance 1.5
        heartbeat a m1                          -> running
        advance 1.5
        heartbeat a m1                          -> running
        claim m2                                -> nothing
    """,
    "heartbeat while another machine holds the job says stop": """
        submit a heartbeat_interval=1
        claim m1 version=                       -> a 1
        advance 2
        claim m2 version=                       -> a 2
        heartbeat a m1                          -> canceled
        heartbeat a m2                          -> running
        heartbeat a m3                          -> canceled
    """,
    "heartbeat of a lost attempt that nobody replaced revives it": """
        submit a heartbeat_interval=1
        claim m1 version=                       -> a 1
        advance 3
        heartbeat a m1                          -> running
        status a                                -> running
        outcomes a                              -> live
    """,
    "heartbeat on a pending job of anybody else says stop": """
        submit a heartbeat_interval=1
        heartbeat a m1                          -> canceled
        claim m1 version=                       -> a 1
        advance 2
        heartbeat a m2                          -> canceled
        status a                                -> pending
    """,
    "heartbeat after this machine reported the failure says pending": """
        submit a heartbeat_interval=1
        claim m1 version=                       -> a 1
        failed a m1                             -> applied
        heartbeat a m1                          -> pending
        heartbeat a m2                          -> canceled
        advance 6
        claim m2 version=                       -> a 2
        heartbeat a m1                          -> canceled
        advance 2
        heartbeat a m1                          -> pending
    """,
    "heartbeat on a job that ended gives its status": """
        submit a
        claim m1 version=                       -> a 1
        completed a m1                          -> applied
        heartbeat a m1                          -> completed
        submit b
        cancel b                                -> done
        heartbeat b m1                          -> canceled
        submit c max_failures=1
        claim m1 version=                       -> c 1
        failed c m1                             -> applied
        heartbeat c m1                          -> failed
    """,
    "heartbeat on an unknown job, or another user's, says stop": """
        submit a
        claim m1 version=                       -> a 1
        heartbeat unknown m1                    -> canceled
        heartbeat a m1 by=other                 -> canceled
        status a                                -> running
    """,
    "completed is applied for the holder and for a lost attempt": """
        submit a heartbeat_interval=1
        claim m1 version=                       -> a 1
        completed a m1                          -> applied
        status a                                -> completed
        submit b heartbeat_interval=1
        claim m1 version=                       -> b 1
        advance 2
        completed b m1                          -> applied
        status b                                -> completed
    """,
    "completed of anybody else is accepted and changes nothing": """
        submit a heartbeat_interval=1
        claim m1 version=                       -> a 1
        completed a m2                          -> ignored
        completed unknown m1                    -> ignored
        completed a m1 by=other                 -> ignored
        status a                                -> running
        cancel a                                -> done
        completed a m1                          -> ignored
        status a                                -> canceled
    """,
    "failed of anybody else is accepted, counts nothing and bans nobody": """
        submit a heartbeat_interval=1
        claim m1 version=                       -> a 1
        failed a m2                             -> ignored
        failed unknown m1                       -> ignored
        failed a m1 by=other                    -> ignored
        counts a                                -> 0 failures 0 interruptions
        advance 2
        failed a m2                             -> ignored
        claim m2                                -> a 2
    """,
    "failed said twice by a legacy worker counts once": """
        submit a
        claim m1 version=                       -> a 1
        failed a m1                             -> applied
        failed a m1                             -> ignored
        counts a                                -> 1 failures 0 interruptions
    """,
    "giving back needs a holder": """
        submit a
        interrupted a m1                        -> ignored
        interrupted a m1 1                      -> lease-lost
        claim m1 version=                       -> a 1
        interrupted a m2                        -> ignored
        interrupted a m1                        -> applied
        status a                                -> pending
    """,
    "a job that was never claimed may be ended from outside by its user": """
        submit a
        completed a m1                          -> applied
        status a                                -> completed
        submit b max_failures=2
        failed b m1                             -> applied
        failed b m1                             -> ignored
        counts b                                -> 1 failures 0 interruptions
        heartbeat b m1                          -> pending
        failed b m2 by=admin                    -> applied
        status b                                -> failed
    """,
    "a worker key ends nothing from outside": """
        submit a
        completed a m1 by=worker                -> ignored
        failed a m1 by=worker                   -> ignored
        completed a m1 1                        -> lease-lost
        status a                                -> pending
        counts a                                -> 0 failures 0 interruptions
    """,
    "a failure from outside bans its machine": """
        submit a retry_delay_s=0
        failed a m1                             -> applied
        claim m1                                -> nothing
        claim m2                                -> a 1
    """,
    "nothing is ended from outside once a job was claimed": """
        submit a heartbeat_interval=1
        claim m1 version=                       -> a 1
        advance 2
        completed a m2                          -> ignored
        status a                                -> pending
    """,
    "a key bound to another group sees no job of this one": """
        submit a heartbeat_interval=1
        claim m1 version=                       -> a 1
        heartbeat a m1 by=bound                 -> canceled
        heartbeat a m1 1 by=bound               -> not-found
        completed a m1 by=bound                 -> ignored
        failed a m1 1 by=bound                  -> not-found
        interrupted a m1 1 by=bound             -> not-found
        status a                                -> running
        submit b group=elsewhere
        claim m1 group=elsewhere by=bound       -> b 1
        heartbeat b m1 1 by=bound               -> running
        completed b m1 1 by=bound               -> applied
    """,
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
async def test_legacy_worker(world: World, history: str) -> None:
    """Each history is a line of the table, or a promise that goes with it."""
    expected, happened = await replay(world, history)

    assert happened == expected


async def test_reports_that_do_not_apply_are_recorded(world: World) -> None:
    """A user who wonders can see what a confused worker said."""
    await replay(world, "submit a\nclaim m1\ncompleted a m2")

    rows = await world.store.database.all(
        "SELECT kind, machine_id, reason FROM events WHERE kind = 'ignored-report'"
    )

    assert rows == [("ignored-report", "m2", "completed")]
