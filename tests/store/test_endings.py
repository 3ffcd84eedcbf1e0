"""How attempts and jobs end: giving back, failing, bans, patience, time limits (rules 5 to 9)."""

from __future__ import annotations

import pytest

from tests.store.histories import World, replay

HISTORIES = {
    "a job that was given back is claimable at once by others": """
        submit a
        claim m1                                -> a 1
        interrupted a m1 1                      -> applied
        claim m2                                -> a 2
        counts a                                -> 0 failures 1 interruptions
    """,
    "a machine that gives a job back at once is held off it for a while": """
        submit a retry_delay_s=10
        claim m1                                -> a 1
        advance 29
        interrupted a m1 1                      -> applied
        claim m1                                -> nothing
        advance 8
        claim m1                                -> nothing
        advance 4
        claim m1                                -> a 2
        interrupted a m1 2                      -> applied
        advance 17
        claim m1                                -> nothing
        advance 6
        claim m1                                -> a 3
    """,
    "a machine that worked on a job for half a minute may take it again at once": """
        submit a
        claim m1                                -> a 1
        advance 30
        interrupted a m1 1                      -> applied
        claim m1                                -> a 2
    """,
    "holding off begins anew after an attempt that lasted": """
        submit a retry_delay_s=10
        claim m1                                -> a 1
        interrupted a m1 1                      -> applied
        advance 12
        claim m1                                -> a 2
        advance 29
        heartbeat a m1 2                        -> running
        advance 29
        interrupted a m1 2                      -> applied
        claim m1                                -> a 3
        interrupted a m1 3                      -> applied
        advance 12
        claim m1                                -> a 4
    """,
    "holding off does not lift a ban": """
        submit a max_failures=9 retry_delay_s=0
        claim m1                                -> a 1
        failed a m1 1                           -> applied
        advance 1000
        claim m1                                -> a 2
        interrupted a m1 2                      -> applied
        claim m2                                -> a 3
        interrupted a m2 3                      -> applied
        advance 60
        claim m1                                -> nothing
    """,
    "a failure counts, delays and bans its machine": """
        submit a retry_delay_s=10
        claim m1                                -> a 1
        failed a m1 1                           -> applied
        status a                                -> pending
        counts a                                -> 1 failures 0 interruptions
        reason a                                -> exit
        claim m2                                -> nothing
        advance 8
        claim m2                                -> nothing
        advance 4
        claim m1                                -> nothing
        claim m2                                -> a 2
        reason a                                -> None
    """,
    "the delay doubles with each failure up to its ceiling": """
        submit a retry_delay_s=10 retry_delay_max_s=15 max_failures=9
        claim m1                                -> a 1
        failed a m1 1                           -> applied
        advance 12
        claim m2                                -> a 2
        failed a m2 2                           -> applied
        advance 12
        claim m3                                -> nothing
        advance 4
        claim m3                                -> a 3
    """,
    "a job fails for good at its last failure": """
        submit a max_failures=2 retry_delay_s=0
        claim m1                                -> a 1
        failed a m1 1                           -> applied
        claim m2                                -> a 2
        failed a m2 2                           -> applied
        status a                                -> failed
        claim m3                                -> nothing
    """,
    "data that could not be moved says nothing against the machine": """
        submit a max_failures=9 retry_delay_s=0
        claim m1                                -> a 1
        failed a m1 1 reason=download           -> applied
        claim m1                                -> a 2
        failed a m1 2 reason=upload             -> applied
        claim m1                                -> a 3
        failed a m1 3 reason=restore            -> applied
        claim m1                                -> a 4
        failed a m1 4 reason=timeout            -> applied
        claim m1                                -> a 5
        counts a                                -> 4 failures 0 interruptions
        failed a m1 5 reason=spawn              -> applied
        claim m1                                -> nothing
    """,
    "retry rules say what an exit code means": """
        submit a retry_rules=[{"exit_codes":[75],"action":"interrupt"},{"exit_codes":[2],"action":"fail"}]
        claim m1                                -> a 1
        failed a m1 1 code=75                   -> applied
        counts a                                -> 0 failures 1 interruptions
        outcomes a                              -> interrupted
        claim m2                                -> a 2
        failed a m2 2 code=2                    -> applied
        status a                                -> failed
    """,
    "a failure that a rule made an interruption may be reported again": """
        submit a retry_rules=[{"exit_codes":[75],"action":"interrupt"}]
        claim m1                                -> a 1
        failed a m1 1 code=75                   -> applied
        failed a m1 1 code=75                   -> applied
        counts a                                -> 0 failures 1 interruptions
    """,
    "the first retry rule that matches wins": """
        submit a retry_rules=[{"exit_codes":[2],"action":"retry"},{"exit_codes":[2],"action":"fail"}]
        claim m1                                -> a 1
        failed a m1 1 code=2                    -> applied
        status a                                -> pending
    """,
    "a ban gives way when no other machine has polled for ten minutes": """
        submit a retry_delay_s=0
        claim m1                                -> a 1
        failed a m1 1                           -> applied
        advance 599
        claim m1                                -> nothing
        advance 2
        claim m1                                -> a 2
    """,
    "a ban holds while another machine polls": """
        submit a retry_delay_s=400 retry_delay_max_s=400
        claim m1                                -> a 1
        failed a m1 1                           -> applied
        advance 300
        claim m2                                -> nothing
        advance 500
        claim m1                                -> nothing
        advance 101
        claim m1                                -> a 2
    """,
    "interruptions without progress end a job at last": """
        submit a max_interruptions=2
        claim m1                                -> a 1
        interrupted a m1 1                      -> applied
        claim m2                                -> a 2
        interrupted a m2 2                      -> applied
        status a                                -> failed
        reason a                                -> no-progress
    """,
    "lost leases without progress end a job at last": """
        submit a max_interruptions=2 heartbeat_interval=1
        claim m1                                -> a 1
        heartbeat a m1 1                        -> running
        advance 2
        claim m2                                -> a 2
        heartbeat a m2 2                        -> running
        advance 2
        status a                                -> failed
        reason a                                -> no-progress
    """,
    "a checkpoint or progress starts the count anew": """
        submit a max_interruptions=2
        claim m1                                -> a 1
        interrupted a m1 1                      -> applied
        claim m2                                -> a 2
        heartbeat a m2 2 progress=0.5           -> running
        interrupted a m2 2                      -> applied
        claim m3                                -> a 3
        interrupted a m3 3 stored=now           -> applied
        claim m4                                -> a 4
        interrupted a m4 4                      -> applied
        status a                                -> pending
        claim m5                                -> a 5
        interrupted a m5 5                      -> applied
        status a                                -> failed
    """,
    "a checkpoint stored by a late giving back starts the count anew": """
        submit a max_interruptions=2 heartbeat_interval=1
        claim m1                                -> a 1
        advance 2
        interrupted a m1 1 stored=now           -> applied
        claim m2                                -> a 2
        advance 2
        status a                                -> pending
    """,
    "interruptions without end are allowed when asked for": """
        submit a max_interruptions=0
        claim m1                                -> a 1
        interrupted a m1 1                      -> applied
        claim m2                                -> a 2
        interrupted a m2 2                      -> applied
        claim m3                                -> a 3
    """,
    "a legacy worker that sends heartbeats counts as making progress": """
        submit a max_interruptions=1 heartbeat_interval=1
        claim m1 version=                       -> a 1
        heartbeat a m1                          -> running
        advance 2
        status a                                -> pending
        claim m2 version=                       -> a 2
        advance 2
        status a                                -> failed
    """,
    "a legacy worker's attempt past its time limit is ended by the server, with a margin": """
        submit a timeout_s=60 heartbeat_interval=100 retry_delay_s=0
        claim m1 version=                       -> a 1
        advance 119
        status a                                -> running
        advance 1
        status a                                -> pending
        outcomes a                              -> failed
        reason a                                -> timeout
        counts a                                -> 1 failures 0 interruptions
        claim m1 version=                       -> a 2
    """,
    "a time limit of fractions of a second does not hinder a claim": """
        submit a timeout_s=1.23456
        claim m1 version=                       -> a 1
    """,
    "a legacy worker whose time is over is told to stop": """
        submit a timeout_s=60 heartbeat_interval=100
        claim m1 version=                       -> a 1
        advance 120
        heartbeat a m1                          -> canceled
        completed a m1                          -> ignored
        failed a m1                             -> ignored
        counts a                                -> 1 failures 0 interruptions
    """,
    "a legacy worker that ran out of time and of tries is told to stop, too": """
        submit a timeout_s=60 heartbeat_interval=100 max_failures=1
        claim m1 version=                       -> a 1
        advance 120
        status a                                -> failed
        heartbeat a m1                          -> canceled
        heartbeat a m2                          -> failed
    """,
    "a worker that knows versions watches its own time limit": """
        submit a timeout_s=60 heartbeat_interval=1000
        claim m1                                -> a 1
        advance 600
        status a                                -> running
    """,
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
async def test_ending(world: World, history: str) -> None:
    """Each history is a promise about what an ending costs."""
    expected, happened = await replay(world, history)

    assert happened == expected
