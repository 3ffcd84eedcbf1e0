"""Leases: one holder, fencing, late but right, and faults of the server's own (rules 1 to 4, 10 and 11)."""

from __future__ import annotations

import pytest

from tests.store.histories import World, replay

HISTORIES = {
    "a job is handed to one machine only": """
        submit a                                -> a
        claim m1                                -> a 1
        claim m2                                -> nothing
        claim m1                                -> nothing
        status a                                -> running
    """,
    "a heartbeat renews the lease": """
        submit a heartbeat_interval=1
        claim m1                                -> a 1
        advance 1.9
        heartbeat a m1 1                        -> running
        advance 1.9
        heartbeat a m1 1                        -> running
        claim m2                                -> nothing
    """,
    "a lease lasts two intervals, and the job is claimable at that very moment": """
        submit a heartbeat_interval=1
        claim m1                                -> a 1
        stall 1.999
        claim m2                                -> nothing
        stall 0.001
        claim m2                                -> a 2
        outcomes a                              -> lost live
    """,
    "a lease that ran out is noticed by upkeep alone": """
        submit a heartbeat_interval=1
        claim m1                                -> a 1
        advance 2
        status a                                -> pending
        counts a                                -> 0 failures 1 interruptions
    """,
    "a lost job keeps its place at the head of the queue": """
        submit a heartbeat_interval=1
        advance 1
        submit b
        claim m1                                -> a 1
        advance 2
        claim m2                                -> a 2
        claim m3                                -> b 1
    """,
    "reports of an older attempt are refused once another machine has claimed": """
        submit a heartbeat_interval=1
        claim m1                                -> a 1
        advance 2
        claim m2                                -> a 2
        heartbeat a m1 1                        -> lease-lost
        completed a m1 1                        -> lease-lost
        failed a m1 1                           -> lease-lost
        interrupted a m1 1                      -> lease-lost
        status a                                -> running
        outcomes a                              -> lost live
        counts a                                -> 0 failures 1 interruptions
    """,
    "the same machine's older attempt does not speak for its newer one": """
        submit a heartbeat_interval=1
        claim m1                                -> a 1
        advance 2
        claim m1                                -> a 2
        heartbeat a m1 1                        -> lease-lost
        completed a m1 1                        -> lease-lost
        heartbeat a m1 2                        -> running
    """,
    "another machine cannot speak with the number of the live attempt": """
        submit a
        claim m1                                -> a 1
        heartbeat a m2 1                        -> lease-lost
        completed a m2 1                        -> lease-lost
        failed a m2 1                           -> lease-lost
        interrupted a m2 1                      -> lease-lost
        heartbeat a m1 7                        -> lease-lost
        status a                                -> running
    """,
    "a late heartbeat revives an attempt that nobody replaced": """
        submit a heartbeat_interval=1
        claim m1                                -> a 1
        advance 3
        heartbeat a m1 1                        -> running
        outcomes a                              -> live
        counts a                                -> 0 failures 0 interruptions
        advance 1.5
        claim m2                                -> nothing
        completed a m1 1                        -> applied
        outcomes a                              -> completed
    """,
    "a late completion counts when nobody claimed since": """
        submit a heartbeat_interval=1
        claim m1                                -> a 1
        advance 60
        completed a m1 1                        -> applied
        status a                                -> completed
        outcomes a                              -> completed
    """,
    "a late failure counts when nobody claimed since": """
        submit a heartbeat_interval=1
        claim m1                                -> a 1
        advance 60
        failed a m1 1                           -> applied
        outcomes a                              -> failed
        status a                                -> pending
        claim m1                                -> nothing
    """,
    "a late giving back is accepted and counted once": """
        submit a heartbeat_interval=1
        claim m1                                -> a 1
        advance 60
        interrupted a m1 1                      -> applied
        outcomes a                              -> interrupted
        counts a                                -> 0 failures 1 interruptions
        heartbeat a m1 1                        -> lease-lost
    """,
    "an attempt that was given back or failed is never revived": """
        submit a
        claim m1                                -> a 1
        interrupted a m1 1                      -> applied
        heartbeat a m1 1                        -> lease-lost
        completed a m1 1                        -> lease-lost
        claim m2                                -> a 2
        failed a m2 2                           -> applied
        heartbeat a m2 2                        -> lease-lost
        completed a m2 2                        -> lease-lost
    """,
    "a report that comes again is answered as the first time and counts once": """
        submit a
        claim m1                                -> a 1
        failed a m1 1                           -> applied
        failed a m1 1                           -> applied
        counts a                                -> 1 failures 0 interruptions
        advance 6
        claim m2                                -> a 2
        failed a m1 1                           -> applied
        interrupted a m2 2                      -> applied
        interrupted a m2 2                      -> applied
        counts a                                -> 1 failures 1 interruptions
        claim m3                                -> a 3
        completed a m3 3                        -> applied
        completed a m3 3                        -> applied
        status a                                -> completed
    """,
    "nothing moves a job out of a final state": """
        submit a
        claim m1                                -> a 1
        cancel a                                -> done
        heartbeat a m1 1                        -> lease-lost
        completed a m1 1                        -> lease-lost
        failed a m1 1                           -> lease-lost
        interrupted a m1 1                      -> lease-lost
        status a                                -> canceled
        submit b
        claim m1                                -> b 1
        completed b m1 1                        -> applied
        failed b m1 1                           -> lease-lost
        cancel b                                -> already-final
        status b                                -> completed
    """,
    "canceling twice is harmless, and a canceled job is never handed out": """
        submit a
        cancel a                                -> done
        cancel a                                -> done
        claim m1                                -> nothing
        outcomes a                              ->
    """,
    "a lost attempt stays lost when its job is canceled afterwards": """
        submit a heartbeat_interval=1
        claim m1                                -> a 1
        advance 2
        cancel a                                -> done
        outcomes a                              -> lost
        completed a m1 1                        -> lease-lost
    """,
    "a server that stood still extends every lease by the gap": """
        submit a heartbeat_interval=5
        claim m1                                -> a 1
        advance 4
        stall 3600
        claim m2                                -> nothing
        advance 5.9
        heartbeat a m1 1                        -> running
        advance 9.9
        claim m2                                -> nothing
        advance 0.1
        claim m2                                -> a 2
    """,
    "a restarted server gives running attempts one fresh lease": """
        submit a heartbeat_interval=5
        claim m1                                -> a 1
        advance 9
        restart
        stall 1.5
        claim m2                                -> nothing
        advance 8.4
        heartbeat a m1 1                        -> running
    """,
    "a restarted server does not trust a machine for ever": """
        submit a heartbeat_interval=5
        claim m1                                -> a 1
        restart
        advance 10
        claim m2                                -> a 2
    """,
    "a jump of the wall clock expires nothing and keeps nothing alive": """
        submit a heartbeat_interval=5
        claim m1                                -> a 1
        wall 86400
        sweep
        claim m2                                -> nothing
        advance 9.9
        claim m2                                -> nothing
        wall -172800
        sweep
        claim m2                                -> nothing
        advance 0.1
        claim m2                                -> a 2
    """,
    "a retry delay is not shortened or stretched by a jump of the wall clock": """
        submit a retry_delay_s=100
        claim m1                                -> a 1
        failed a m1 1                           -> applied
        wall 86400
        advance 85
        claim m2                                -> nothing
        wall -172800
        advance 30
        claim m2                                -> a 2
    """,
    "the same claim id gets the same job again while its attempt lives": """
        submit a heartbeat_interval=1
        submit b
        claim m1 claim_id=c1                    -> a 1
        claim m1 claim_id=c1                    -> a 1
        claim m2 claim_id=c1                    -> b 1
        claim m1 claim_id=c1 by=worker          -> nothing
        advance 2
        claim m1 claim_id=c1                    -> a 2
    """,
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
async def test_lease(world: World, history: str) -> None:
    """Each history is a promise about who may act for a job."""
    expected, happened = await replay(world, history)

    assert happened == expected
