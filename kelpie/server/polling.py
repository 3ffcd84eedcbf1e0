"""Long polls: look, wait for a reason, look again, and claim nothing for a client that went away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from litestar.types import Receive

from kelpie.server.waiting import Signals, Waiter

_Answer = TypeVar("_Answer")


class ClientGone(Exception):
    """Nobody is left to answer."""


async def wait_for(
    signals: Signals,
    receive: Receive,
    key: tuple[object, ...],
    look: Callable[[], Awaitable[_Answer | None]],
    wait_s: float,
) -> _Answer | None:
    """Look until there is an answer or `wait_s` is over; raises ClientGone."""
    if wait_s <= 0:
        return await look()
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    async with _while_connected(receive):
        while True:
            with signals.waiter(key) as waiter:
                found = await look()
                left = until - loop.time()
                if found is not None or left <= 0 or not waiter.may_wait:
                    # A look without a wait may still have been woken: that wake is somebody else's.
                    waiter.pass_on()
                    return found
                if not await waiter.wait(left):
                    return None
                found = await _look_and_pass_on(look, waiter)
                if found is not None or not waiter.may_wait:
                    return found


async def _look_and_pass_on(look: Callable[[], Awaitable[_Answer | None]], waiter: Waiter) -> _Answer | None:
    found = await look()
    if found is None:
        waiter.pass_on()
    return found


@contextlib.asynccontextmanager
async def _while_connected(receive: Receive) -> AsyncIterator[None]:
    task = asyncio.current_task()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        if task is not None:
            task.cancel()

    watcher = asyncio.create_task(watch(), name="watch-disconnect")
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        if task is not None:
            task.uncancel()
        raise ClientGone from None
    finally:
        watcher.cancel()
