"""The courier: sends webhook messages, many at once, few to one receiver, and notes how it went.

What is to be sent, and in which order, the store knows (store/outbox.py); where
a message may go, the client for outgoing requests decides (outgoing.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from datetime import UTC, datetime

import structlog
from standardwebhooks import Webhook

from kelpie import __version__
from kelpie.errors import KelpieError
from kelpie.outgoing import NotSent, Outgoing
from kelpie.server.services import Services
from kelpie.store.database import Database
from kelpie.store.outbox import Due, Try, due, settle
from kelpie.store.transaction import WEBHOOKS_KEY

log = structlog.get_logger()
_AT_ONCE = 128
_PER_RECEIVER = 4
_LOOK_EVERY_S = 1.0
"""For retries, which become due without a commit; everything else stirs the courier at once."""
_AFTER_A_FAULT_S = 5.0
_GONE = 410
_SHOWN = 1000


async def deliver(services: Services) -> None:
    """Send messages until canceled."""
    async with (
        Outgoing(allow_private=services.config.webhook_allow_private) as outgoing,
        asyncio.TaskGroup() as group,
    ):
        courier = Courier(services.store.database, outgoing, group)
        services.signals.listen(WEBHOOKS_KEY, courier.stirred)
        while True:
            courier.stirred.clear()
            try:
                await courier.step()
            except Exception as error:
                trace = None if isinstance(error, KelpieError) else error
                log.warning("courier_failed", error=str(error), exc_info=trace)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await courier.stirred.wait()


class Courier:
    """What is under way; a task of `group` for each message."""

    def __init__(self, database: Database, outgoing: Outgoing, group: asyncio.TaskGroup) -> None:
        self._database = database
        self._outgoing = outgoing
        self._group = group
        self._flying: dict[int, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self.stirred = asyncio.Event()
        """Set when there may be something to send."""

    @property
    def under_way(self) -> list[asyncio.Task[None]]:
        """Every message that is being sent."""
        return list(self._flying.values())

    async def step(self) -> None:
        """Send off whatever is due and has room."""
        room = _AT_ONCE - len(self._flying)
        if room <= 0:
            return
        found = await due(
            self._database,
            flying=self._flying,
            full=[origin for origin, count in self._busy.items() if count >= _PER_RECEIVER],
            room=room,
            per_origin=_PER_RECEIVER,
        )
        for message in found:
            # One that was sent off between the question and its answer is under way already.
            if message.delivery_seq not in self._flying and self._busy[message.origin] < _PER_RECEIVER:
                self._busy[message.origin] += 1
                task = self._group.create_task(self._carry(message), name=message.delivery_id)
                self._flying[message.delivery_seq] = task

    async def _carry(self, message: Due) -> None:
        try:
            await settle(self._database, message, await self._send(message))
        except Exception as error:  # noqa: BLE001 - no message may end the courier
            # Its row says that it is still due: without a pause it would be sent again in a circle.
            log.warning("webhook_not_settled", id=message.delivery_id, error=str(error))
            await asyncio.sleep(_AFTER_A_FAULT_S)
        finally:
            del self._flying[message.delivery_seq]
            self._busy[message.origin] -= 1
            if not self._busy[message.origin]:
                del self._busy[message.origin]
            self.stirred.set()

    async def _send(self, message: Due) -> Try:
        try:
            answer = await self._outgoing.post(message.url, message.body.encode(), _headers(message))
        except NotSent as error:
            return Try(is_delivered=False, is_over=error.is_hopeless, error=error.message)
        except Exception as error:
            log.warning("webhook_defect", id=message.delivery_id, exc_info=error)
            return Try(is_delivered=False, error="The server could not send it; its log says why.")
        is_delivered = answer.status // 100 == 2  # noqa: PLR2004 - any 2xx
        return Try(
            is_delivered=is_delivered,
            # The receiver says that it wants no more (Standard Webhooks).
            is_over=answer.status == _GONE,
            status=answer.status,
            answer=answer.body[:_SHOWN],
            error=None if is_delivered else _why(answer.status),
        )


def _why(status: int) -> str:
    if status // 100 == 3:  # noqa: PLR2004 - any 3xx
        return f"Answered {status}: redirects are not followed."
    return f"Answered {status}."


def _headers(message: Due) -> dict[str, str]:
    now = datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"kelpie/{__version__}",
        "webhook-id": message.delivery_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(message.secret).sign(message.delivery_id, now, message.body),
    }
    if message.key is not None:
        headers["X-Kelpie-Key"] = message.key
    return headers
