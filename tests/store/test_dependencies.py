"""Jobs that wait for jobs, and retries, as histories."""

from __future__ import annotations

import pytest

from tests.store.histories import World, replay

HISTORIES = {
    "a job waits until all it needs are completed": """
        submit a
        submit b
        submit c needs=a,b
        claim m1                    -> a 1
        claim m1                    -> b 1
        claim m1                    -> nothing
        completed a m1 1            -> applied
        claim m1                    -> nothing
        completed b m1 1            -> applied
        claim m1                    -> c 1
    """,
    "what is completed already is not waited for": """
        submit a
        claim m1                    -> a 1
        completed a m1 1            -> applied
        submit b needs=a
        claim m1                    -> b 1
    """,
    "a failure is handed on along the chain": """
        submit a max_failures=1
        submit b needs=a
        submit c needs=b
        claim m1                    -> a 1
        failed a m1 1               -> applied
        status b                    -> failed
        reason c                    -> dependency
    """,
    "a cancel is, too, and what has failed already fails at once": """
        submit a
        submit b needs=a
        cancel a                    -> done
        reason b                    -> dependency
        submit c needs=a
        reason c                    -> dependency
    """,
    "a job that nobody has is refused": """
        submit a by=other
        submit b needs=a            -> invalid-fields
        submit c needs=unknown      -> invalid-fields
    """,
    "a retry waits again for what is not completed": """
        submit a max_failures=1
        submit b needs=a
        claim m1                    -> a 1
        failed a m1 1               -> applied
        retry b                     -> pending
        claim m2                    -> nothing
        retry a                     -> pending
        claim m1                    -> a 2
        completed a m1 2            -> applied
        claim m1                    -> b 1
    """,
    "a retry resets the counters and the bans, not the attempts": """
        submit a max_failures=1
        claim m1                    -> a 1
        retry a                     -> conflict
        failed a m1 1               -> applied
        retry a by=other            -> not-found
        retry a                     -> pending
        counts a                    -> 0 failures 0 interruptions
        claim m1                    -> a 2
        outcomes a                  -> failed live
        completed a m1 2            -> applied
        retry a                     -> conflict
    """,
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
async def test_dependencies_and_retries(world: World, history: str) -> None:
    """Each history is a promise about who waits for whom."""
    expected, happened = await replay(world, history)

    assert happened == expected


async def test_a_crowd_of_dependents_is_told_in_steps(world: World) -> None:
    """No single step is long, and all are told in the end."""
    await world.do("submit hub")
    for number in range(250):
        await world.do(f"submit {number} needs=hub")
    await world.do("cancel hub")

    first = [await world.do(f"status {number}") for number in range(250)]
    await world.do("sweep")
    second = [await world.do(f"status {number}") for number in range(250)]

    assert 0 < first.count("failed") < 250
    assert second.count("failed") == 250
