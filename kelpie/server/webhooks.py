"""Routes of webhooks: a user's settings, what was sent, sending again."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, get, post, put
from litestar.params import Parameter

from kelpie.contract import DEFAULT_PAGE, MAX_PAGE
from kelpie.errors import InvalidFields, Issue
from kelpie.outgoing import url_problem
from kelpie.server.auth import managers, readers
from kelpie.server.bodies import read
from kelpie.server.openapi import Doc
from kelpie.server.services import Request, caller_of, services_of
from kelpie.store import webhooks
from kelpie.webhook_contract import Deliveries, Delivery, WebhookChoice, WebhookSettings

_LAST_PAGE = 1 << 40  # keeps the offset inside 64 bits


@get(
    "/users/me/webhook",
    before_request=managers,
    operation_id="get_WebhookSettings",
    summary="How my webhooks are signed",
    opt=Doc(is_new=True).opt(),
)
async def get_settings(request: Request) -> WebhookSettings:
    """Fetch the secret that verifies signatures (made on first use), the webhook key and the default url."""
    return await webhooks.settings_of(services_of(request).store.database, caller_of(request))


@put(
    "/users/me/webhook",
    before_request=managers,
    operation_id="put_WebhookSettings",
    summary="Choose the webhook key and the default webhook",
    opt=Doc(body=WebhookChoice, errors=(400,), is_new=True).opt(),
)
async def put_settings(request: Request) -> WebhookSettings:
    """Replace what `X-Kelpie-Key` carries, and the webhook of jobs submitted from now on that name none."""
    choice = await read(request, WebhookChoice)
    problem = url_problem(choice.url or "")
    if problem:
        raise InvalidFields([Issue("invalid_string", problem, ["body", "url"])])
    store = services_of(request).store
    if choice.key is not None and store.caller(choice.key) is not None:
        message = "Expected a word of your own, got an API key: whoever receives webhooks could use it"
        raise InvalidFields([Issue("invalid_string", message, ["body", "key"])])
    return await webhooks.choose(store.database, caller_of(request), choice)


@get(
    "/webhooks/deliveries",
    before_request=readers,
    operation_id="get_ListDeliveries",
    summary="List webhook messages",
    opt=Doc(errors=(400,), is_new=True).opt(),
)
async def list_deliveries(
    request: Request,
    *,
    job_id: Annotated[str | None, Parameter(min_length=1)] = None,
    page_size: Annotated[int, Parameter(ge=1, le=MAX_PAGE)] = DEFAULT_PAGE,
    page: int = 1,
) -> Deliveries:
    """List the caller's own webhook messages, newest first, with the answers they got."""
    return await webhooks.deliveries_of(
        services_of(request).store.database,
        caller_of(request),
        job_id=job_id,
        page=min(max(page, 1), _LAST_PAGE),
        page_size=page_size,
    )


@post(
    "/webhooks/deliveries/{delivery_id:str}/resend",
    status_code=202,
    before_request=managers,
    operation_id="post_ResendDelivery",
    summary="Send a webhook message again",
    opt=Doc(errors=(404,), is_new=True).opt(),
)
async def resend_delivery(request: Request, delivery_id: str) -> Delivery:
    """Send a message once more, at once, with the same id."""
    return await webhooks.resend(services_of(request).store.database, caller_of(request), delivery_id)


router = Router(
    "/", route_handlers=[get_settings, put_settings, list_deliveries, resend_delivery], tags=["webhooks"]
)
