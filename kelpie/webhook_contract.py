"""What webhooks and their routes carry on the wire; the job's own fields are in contract.py."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from kelpie.contract import NonEmpty, WebhookEvent


class WebhookMessage(Struct, kw_only=True):
    """What is sent to a job's webhook; the first four fields are the original's."""

    status: WebhookEvent
    job_id: str
    machine_id: str | None
    container_group_id: str
    attempt: int
    timestamp: str
    reason: str | None


class WebhookChoice(Struct, kw_only=True):
    """`PUT /users/me/webhook`: what `X-Kelpie-Key` carries, and the webhook of jobs that name none."""

    # A header takes no control characters, and no text beyond ASCII that receivers agree on; `$` alone
    # would let a last line break through.
    key: (
        Annotated[str, Meta(min_length=1, max_length=1024, pattern=r"^[!-~]([ -~]*[!-~])?$(?!\n)")] | None
    ) = None
    url: NonEmpty | None = None


class WebhookSettings(Struct, kw_only=True):
    """How webhooks are signed: `secret` verifies signatures, `key` and `url` are the user's choice."""

    secret: str
    key: str | None
    url: str | None


class Delivery(Struct, kw_only=True):
    """One webhook message, and how sending it went; `id` is the `webhook-id` header."""

    id: str
    job_id: str
    url: str
    message: WebhookMessage
    state: Literal["pending", "delivered", "given_up"]
    created: str
    tries: int
    next_try: str | None
    last_try: str | None
    answer_status: int | None
    answer: str | None
    error: str | None


class Deliveries(Struct, kw_only=True, rename={"count": "_count"}):
    """One page of webhook messages, newest first."""

    count: int
    deliveries: list[Delivery]
