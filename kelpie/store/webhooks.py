"""A user's webhook settings, and what was sent; messages themselves are written by outbox.py."""

from __future__ import annotations

import base64
import secrets

import msgspec

from kelpie.errors import NotFound
from kelpie.store.access import Caller
from kelpie.store.clock import iso, iso_or_none
from kelpie.store.database import Database
from kelpie.store.transaction import WEBHOOKS_KEY, Row, Transaction
from kelpie.store.writer import Order
from kelpie.webhook_contract import Deliveries, Delivery, WebhookChoice, WebhookMessage, WebhookSettings

_SECRET_BYTES = 32
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what every such secret begins with (Standard Webhooks)
_decode_message = msgspec.json.Decoder(WebhookMessage).decode


def has_default(transaction: Transaction, user_seq: int) -> bool:
    """Whether jobs of this user that name no webhook have one all the same."""
    row = transaction.one(
        "SELECT 1 FROM webhook_settings WHERE user_seq = ? AND url IS NOT NULL", (user_seq,)
    )
    return row is not None


def ensure(transaction: Transaction, user_seq: int) -> None:
    """Make the user's secret if there is none yet."""
    if transaction.one("SELECT 1 FROM webhook_settings WHERE user_seq = ?", (user_seq,)) is None:
        secret = _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
        transaction.run("INSERT INTO webhook_settings (user_seq, secret) VALUES (?, ?)", (user_seq, secret))


async def settings_of(database: Database, caller: Caller) -> WebhookSettings:
    """Read the caller's settings; the secret is made on first use."""

    def operation(transaction: Transaction) -> WebhookSettings:
        ensure(transaction, caller.user_seq)
        return _settings(transaction, caller.user_seq)

    return await database.write(Order.SUBMIT, operation)


async def choose(database: Database, caller: Caller, choice: WebhookChoice) -> WebhookSettings:
    """Replace the key and the default url of the caller; the secret stays."""

    def operation(transaction: Transaction) -> WebhookSettings:
        ensure(transaction, caller.user_seq)
        transaction.run(
            "UPDATE webhook_settings SET key = ?, url = ? WHERE user_seq = ?",
            (choice.key, choice.url, caller.user_seq),
        )
        return _settings(transaction, caller.user_seq)

    return await database.write(Order.SUBMIT, operation)


def _settings(transaction: Transaction, user_seq: int) -> WebhookSettings:
    row = transaction.one("SELECT secret, key, url FROM webhook_settings WHERE user_seq = ?", (user_seq,))
    if row is None:
        raise NotFound("User not found")
    return WebhookSettings(secret=row[0], key=row[1], url=row[2])


_SELECT = """
    SELECT delivery_id, jobs.job_id, url, body, state, webhook_deliveries.created, tries, next_try,
        last_try, answer_status, answer, error
    FROM webhook_deliveries JOIN jobs ON jobs.job_seq = webhook_deliveries.job_seq
"""


async def deliveries_of(
    database: Database, caller: Caller, *, job_id: str | None, page: int, page_size: int
) -> Deliveries:
    """List the caller's own messages, newest first; pages count from 1."""
    of_job = "AND webhook_deliveries.job_seq = (SELECT job_seq FROM jobs WHERE job_id = :job_id)"
    rows = await database.all(
        f"""
        {_SELECT} WHERE webhook_deliveries.user_seq = :user_seq {of_job if job_id is not None else ""}
        ORDER BY delivery_seq DESC LIMIT :limit OFFSET :offset
        """,
        {
            "user_seq": caller.user_seq,
            "job_id": job_id,
            "limit": page_size,
            "offset": (page - 1) * page_size,
        },
    )
    return Deliveries(count=len(rows), deliveries=[_delivery(row) for row in rows])


async def resend(database: Database, caller: Caller, delivery_id: str) -> Delivery:
    """Send a message once more, at once, whatever became of it; raises NotFound, for others' too."""

    def operation(transaction: Transaction) -> Delivery:
        changed = transaction.run(
            """
            UPDATE webhook_deliveries SET state = 'pending', tries = 0,
                -- One that waits for its turn behind another of its job goes on waiting.
                next_try = CASE WHEN state = 'pending' AND next_try IS NULL THEN NULL ELSE :now END
            WHERE delivery_id = :delivery_id AND user_seq = :user_seq
            """,
            {"delivery_id": delivery_id, "user_seq": caller.user_seq, "now": transaction.now},
        )
        row = transaction.one(f"{_SELECT} WHERE delivery_id = ?", (delivery_id,)) if changed else None
        if row is None:
            raise NotFound("Delivery not found")
        transaction.wake(WEBHOOKS_KEY)
        return _delivery(row)

    return await database.write(Order.SUBMIT, operation)


def _delivery(row: Row) -> Delivery:
    return Delivery(
        id=row[0], job_id=row[1], url=row[2], message=_decode_message(row[3]), state=row[4],
        created=iso(row[5]), tries=row[6], next_try=iso_or_none(row[7]), last_try=iso_or_none(row[8]),
        answer_status=row[9], answer=row[10], error=row[11],
    )  # fmt: skip
