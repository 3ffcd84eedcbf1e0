"""Waiting for something to be seen, without saying when it must be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

_Seen = TypeVar("_Seen")
PATIENCE_S = 60.0
_LOOK_S = 0.05


async def until(what: str, look: Callable[[], _Seen]) -> _Seen:
    """Look until there is something to see; raises AssertionError when it never comes."""

    async def looked() -> _Seen:
        return look()

    return await until_seen(what, looked)


async def until_seen(what: str, look: Callable[[], Awaitable[_Seen]]) -> _Seen:
    """Do what `until` does for something that must be waited for itself."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (seen := await look()):  # noqa: ASYNC110 - other processes have no events
                await asyncio.sleep(_LOOK_S)
    except TimeoutError as error:
        raise AssertionError(f"Never seen within {PATIENCE_S:.0f} s: {what}.") from error
    return seen
