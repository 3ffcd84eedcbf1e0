"""Work that an event cuts short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless(
    event: asyncio.Event, work: Coroutine[Any, Any, T], grace_s: Callable[[], float] = lambda: 0.0
) -> T | None:
    """Do `work`; cancel it when `event` is set first and `grace_s` is over: None. What it raises is raised.

    `grace_s` is asked when the event is set.
    """
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(event.wait(), name="waiting")
        working = group.create_task(_outcome(work), name="working")
        await asyncio.wait((waiting, working), return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and (left_s := grace_s()) > 0:
            await asyncio.wait((working,), timeout=left_s)
        waiting.cancel()
        working.cancel()
    if working.cancelled():
        return None
    result, error = working.result()
    if error is not None:
        raise error
    return result


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until `event` is set."""
    await unless(event, asyncio.sleep(seconds))


async def _outcome(work: Coroutine[Any, Any, T]) -> tuple[T | None, Exception | None]:
    # As a value, because a TaskGroup would wrap it, and callers look for the precise error.
    try:
        return await work, None
    except Exception as error:  # noqa: BLE001 - handed on whole
        return None, error
