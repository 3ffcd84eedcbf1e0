"""Slow request bodies: a client that never finishes what it says is answered 408."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar.types import Receive

from kelpie.errors import RequestTimeout

SLOWEST_BYTES_PER_S = 16 * 1024


def within(receive: Receive, *, patience_s: float) -> Receive:
    """Wrap `receive` so that the body comes within `patience_s`, and more as bytes come; then 408."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    is_whole = False

    async def patient() -> Any:
        nonlocal deadline, is_whole
        if is_whole:
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message: Any = await receive()
        except TimeoutError as error:
            raise RequestTimeout("The request body did not come in time.") from error
        if message["type"] != "http.request":
            return message
        deadline += len(message["body"]) / SLOWEST_BYTES_PER_S
        is_whole = not message["more_body"]
        return message

    return patient
