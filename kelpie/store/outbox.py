"""Webhook messages: written in the transaction of the change they tell of, sent in order per job.

Sending is the courier's (server/courier.py). Only the oldest pending message
of a job has a time for its next try; its end gives the next one its turn.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Collection
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from kelpie.contract import WEBHOOK_EVENTS, JobSpec, WebhookEvent
from kelpie.lifecycle import JobStatus, Outcome, retry_delay_s
from kelpie.store import webhooks
from kelpie.store.attempts import Ending
from kelpie.store.clock import iso
from kelpie.store.database import Database
from kelpie.store.transaction import WEBHOOKS_KEY, Transaction
from kelpie.store.writer import Order
from kelpie.webhook_contract import WebhookMessage

MAX_TRIES = 19
"""5 s, 10 s, 20 s … then every 3 hours: about 24 hours in all."""
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 3 * 3600.0
_JITTER = 0.2
_MS = 1000
_KEEP_MS = 30 * 24 * 3600 * _MS
_FEW = 500
_BITS: dict[str, int] = {"running": 1, "completed": 2, "failed": 4, "interrupted": 8, "canceled": 16}
_encode = msgspec.json.Encoder().encode


class Due(Struct, frozen=True, kw_only=True):
    """A message that is to be sent now."""

    delivery_seq: int
    delivery_id: str
    job_seq: int
    url: str
    origin: str
    body: str
    tries: int
    secret: str
    key: str | None


class Try(Struct, frozen=True, kw_only=True):
    """How sending went: an answer, or an error; `is_over` when trying again is pointless."""

    is_delivered: bool
    is_over: bool = False
    status: int | None = None
    answer: str | None = None
    error: str | None = None


def wanted(spec: JobSpec, *, has_default: bool) -> int:
    """Make the bits of the events a job's webhook wants; 0 when there is no webhook."""
    if not (spec.webhook or has_default):
        return 0
    events = WEBHOOK_EVENTS if spec.webhook_events is None else spec.webhook_events
    return sum(_BITS[event] for event in set(events))


def record(
    transaction: Transaction,
    job_seq: int,
    bits: int,
    event: WebhookEvent,
    *,
    machine_id: str | None,
    attempt: int,
    reason: str | None = None,
) -> None:
    """Write a message if the job's webhook wants this event; otherwise not one statement is run."""
    if not bits & _BITS[event]:
        return
    row = transaction.one(
        """
        SELECT jobs.job_id, jobs.user_seq, container_groups.container_group_id,
            coalesce(nullif(json_extract(job_specs.definition, '$.webhook'), ''), webhook_settings.url)
        FROM jobs
        JOIN container_groups ON container_groups.group_seq = jobs.group_seq
        JOIN job_specs ON job_specs.job_seq = jobs.job_seq
        LEFT JOIN webhook_settings ON webhook_settings.user_seq = jobs.user_seq
        WHERE jobs.job_seq = ?
        """,
        (job_seq,),
    )
    if row is None or not row[3]:
        # The user's default webhook was taken back since.
        return
    job_id, user_seq, group, url = row
    message = WebhookMessage(
        status=event, job_id=job_id, machine_id=machine_id, container_group_id=group, attempt=attempt,
        timestamp=iso(transaction.wall), reason=reason,
    )  # fmt: skip
    webhooks.ensure(transaction, user_seq)
    _put(transaction, user_seq, job_seq, url, _encode(message).decode())


def record_end(
    transaction: Transaction,
    job_seq: int,
    bits: int,
    ending: Ending,
    *,
    source: JobStatus,
    target: JobStatus,
    machine_id: str | None,
    attempt: int,
) -> None:
    """Write the message that tells of the end of an attempt or a job, if its webhook wants it."""
    event = _event(ending.outcome, source, target) if bits else None
    if event is not None:
        record(
            transaction, job_seq, bits, event, machine_id=machine_id, attempt=attempt, reason=ending.reason
        )


def _event(outcome: Outcome, source: JobStatus, target: JobStatus) -> WebhookEvent | None:
    if target is JobStatus.COMPLETED:
        return "completed"
    if target is JobStatus.FAILED:
        return "failed"
    if target is JobStatus.CANCELED:
        return "canceled"
    # A machine that gives back what it had already lost says nothing new.
    is_gone = outcome in {Outcome.INTERRUPTED, Outcome.LOST} and source is JobStatus.RUNNING
    return "interrupted" if is_gone else None


def _put(transaction: Transaction, user_seq: int, job_seq: int, url: str, body: str) -> None:
    transaction.run(
        """
        INSERT INTO webhook_deliveries
            (delivery_id, user_seq, job_seq, url, origin, body, created, next_try)
        VALUES (:delivery_id, :user_seq, :job_seq, :url, :origin, :body, :wall,
            CASE WHEN EXISTS (
                SELECT 1 FROM webhook_deliveries WHERE job_seq = :job_seq AND state = 'pending'
            ) THEN NULL ELSE :now END)
        """,
        {
            "delivery_id": f"msg_{uuid.uuid4().hex}",
            "user_seq": user_seq,
            "job_seq": job_seq,
            "url": url,
            "origin": _origin(url),
            "body": body,
            "wall": transaction.wall,
            "now": transaction.now,
        },
    )
    transaction.wake(WEBHOOKS_KEY)


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or ""
    except ValueError:
        # Not a URL: the courier will say so.
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}"


async def due(
    database: Database, *, flying: Collection[int], full: Collection[str], room: int, per_origin: int
) -> list[Due]:
    """Find what is to be sent now: up to `per_origin` for each receiver, the longest due first.

    Left out is what is `flying`, and every origin that is `full`.
    """

    def operation(transaction: Transaction) -> list[Due]:
        origins = _due_origins(transaction, full, room)
        found = [row for origin in origins for row in _due_at(transaction, origin, flying, per_origin)]
        return found[:room]

    return await database.write(Order.UPKEEP, operation)


def _due_origins(transaction: Transaction, full: Collection[str], room: int) -> list[str]:
    # Steps from one origin to the next by the index: a receiver with a million
    # messages waiting costs no more than one with a single message.
    rows = transaction.all(
        """
        WITH RECURSIVE origins (origin) AS (
            SELECT min(origin) FROM webhook_deliveries WHERE next_try IS NOT NULL
            UNION ALL
            SELECT (
                SELECT min(origin) FROM webhook_deliveries
                WHERE next_try IS NOT NULL AND origin > origins.origin
            ) FROM origins WHERE origins.origin IS NOT NULL
        )
        SELECT origin, (
            SELECT min(next_try) FROM webhook_deliveries
            WHERE next_try IS NOT NULL AND webhook_deliveries.origin = origins.origin
        ) AS first
        FROM origins
        WHERE origin IS NOT NULL AND first <= :now AND origin NOT IN (SELECT value FROM json_each(:full))
        ORDER BY first LIMIT :room
        """,
        {"now": transaction.now, "full": _encode(list(full)).decode(), "room": room},
    )
    return [row[0] for row in rows]


def _due_at(transaction: Transaction, origin: str, flying: Collection[int], few: int) -> list[Due]:
    rows = transaction.all(
        """
        SELECT delivery_seq, delivery_id, job_seq, webhook_deliveries.url, origin, body, tries, secret, key
        FROM webhook_deliveries
        JOIN webhook_settings ON webhook_settings.user_seq = webhook_deliveries.user_seq
        WHERE next_try IS NOT NULL AND origin = :origin AND next_try <= :now
            AND delivery_seq NOT IN (SELECT value FROM json_each(:flying))
        ORDER BY next_try, delivery_seq LIMIT :few
        """,
        {"origin": origin, "now": transaction.now, "flying": _encode(list(flying)).decode(), "few": few},
    )
    return [
        Due(
            delivery_seq=row[0], delivery_id=row[1], job_seq=row[2], url=row[3], origin=row[4], body=row[5],
            tries=row[6], secret=row[7], key=row[8],
        )
        for row in rows
    ]  # fmt: skip


async def settle(database: Database, sent: Due, outcome: Try) -> None:
    """Note how a try went: delivered, to be tried again, or given up."""

    def operation(transaction: Transaction) -> None:
        is_last = outcome.is_over or sent.tries + 1 >= MAX_TRIES
        state = "delivered" if outcome.is_delivered else "given_up" if is_last else "pending"
        transaction.run(
            """
            UPDATE webhook_deliveries SET state = :state, tries = tries + 1, next_try = :next_try,
                last_try = :wall, answer_status = :status, answer = :answer, error = :error
            WHERE delivery_seq = :delivery_seq AND state = 'pending'
            """,
            {
                "state": state,
                "next_try": transaction.now + _pause_ms(sent.tries + 1) if state == "pending" else None,
                "wall": transaction.wall,
                "status": outcome.status,
                "answer": outcome.answer,
                "error": outcome.error,
                "delivery_seq": sent.delivery_seq,
            },
        )
        if state != "pending":
            _next_turn(transaction, sent.job_seq)

    await database.write(Order.UPKEEP, operation)


def _next_turn(transaction: Transaction, job_seq: int) -> None:
    transaction.run(
        """
        UPDATE webhook_deliveries SET next_try = :now
        WHERE next_try IS NULL AND delivery_seq = (
            SELECT min(delivery_seq) FROM webhook_deliveries WHERE job_seq = :job_seq AND state = 'pending'
        )
        """,
        {"now": transaction.now, "job_seq": job_seq},
    )
    transaction.wake(WEBHOOKS_KEY)


def _pause_ms(tries: int) -> int:
    pause_s = retry_delay_s(tries, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)
    # Jitter spreads what failed together; it is no secret.
    return int(pause_s * random.uniform(1 - _JITTER, 1 + _JITTER) * _MS)  # noqa: S311


async def prune(database: Database) -> None:
    """Forget deliveries that ended, 30 days after they were made, a few at a time."""

    def operation(transaction: Transaction) -> int:
        return transaction.run(
            """
            DELETE FROM webhook_deliveries WHERE delivery_seq IN (
                SELECT delivery_seq FROM webhook_deliveries
                WHERE state <> 'pending' AND created <= ? LIMIT ?
            )
            """,
            (transaction.wall - _KEEP_MS, _FEW),
        )

    while await database.write(Order.UPKEEP, operation) == _FEW:
        pass
