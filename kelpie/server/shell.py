"""What holds for every path, matched or not: request ids, authentication before 404, size limits.

Litestar's own middleware does not run for unmatched routes, so this wraps the
whole application.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import Message, Receive, Scope, Send

from kelpie.config import ServerConfig
from kelpie.errors import KelpieError, NotAllowed, RequestTimeout, TooLarge, TooManyRequests
from kelpie.server.answers import encode, unexpected
from kelpie.server.auth import Gate
from kelpie.server.cors import Cors, Headers
from kelpie.server.express import express
from kelpie.server.logins import FailedLogins, address_of
from kelpie.server.patience import within
from kelpie.server.polling import ClientGone
from kelpie.server.services import Services
from kelpie.store.access import Caller

_OPEN = frozenset({"/livez", "/readyz", "/openapi.json", "/docs"})
_OPEN_PREFIX = "/docs/"


class Shell:
    """The outermost ASGI application."""

    def __init__(self, app: Litestar, config: ServerConfig) -> None:
        self._app = app
        self._config = config
        self._max_body_bytes = config.max_body_mib << 20
        self._cors = Cors(config.cors_origins)
        self._failures = FailedLogins(per_minute=config.failed_logins_per_minute)
        self._run = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self.gate: Gate | None = None
        self.services: Services | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = f"{self._run}-{next(self._numbers)}"
        scope["request_id"] = request_id  # type: ignore[typeddict-unknown-key]
        _drop_trailing_slash(scope)
        headers = dict(scope["headers"])
        marked = self._marked(
            scope, send, [(b"x-request-id", request_id.encode()), *self._cors.headers(headers)]
        )
        preflight = self._cors.preflight(scope, headers)
        if preflight is not None:
            await _answer(self._marked(scope, send, preflight), 204, b"")
            return
        if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
            receive = within(receive, patience_s=self._config.body_patience_s)
        try:
            caller = self._admit(scope, headers)
            status, content = await self._express(scope, receive, caller)
            if content is None:
                await self._app(scope, receive, marked)
            else:
                await _answer(marked, status, content)
        except KelpieError as error:
            await _answer(marked, error.status or KelpieError.status, encode(error), _extra(error))
        except ClientGone:
            # The server's own log would call an answer that nobody waits for an error.
            return

    def _marked(self, scope: Scope, send: Send, headers: Headers) -> Send:
        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
                if self.services is not None:
                    self.services.metrics.observe_request(scope, message["status"])
            await send(message)

        return wrapped

    async def _express(
        self, scope: Scope, receive: Receive, caller: Caller | None
    ) -> tuple[int, bytes | None]:
        if caller is None or self.services is None:
            return 0, None
        try:
            return 200, await express(scope, receive, self.services, caller)
        except (KelpieError, ClientGone):
            raise
        except Exception as error:  # noqa: BLE001 - the framework's last resort does not reach here
            return 500, msgspec.json.encode(unexpected(scope, error))

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> Caller | None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_body_bytes:
            raise TooLarge(f"The request body may have at most {self._max_body_bytes} bytes.")
        path = scope["path"]
        if path in _OPEN or path.startswith(_OPEN_PREFIX):
            return None
        if self.gate is None:
            raise RuntimeError("The server has not started.")
        try:
            caller = self.gate.admit(headers)
        except NotAllowed:
            self._failures.count(address_of(scope, headers, behind_proxy=self._config.behind_proxy))
            raise
        scope["caller"] = caller  # type: ignore[typeddict-unknown-key]
        return caller


def _drop_trailing_slash(scope: Any) -> None:
    path = scope["path"]
    if len(path) > 1 and path.endswith("/") and not path.endswith("//"):
        scope["path"] = path[:-1]
        scope["raw_path"] = scope["raw_path"].removesuffix(b"/")


def _extra(error: KelpieError) -> Headers:
    if isinstance(error, TooManyRequests):
        return [(b"retry-after", str(error.retry_after_s).encode())]
    # What is left of a body that was given up must not be read as the next request.
    return [(b"connection", b"close")] if isinstance(error, RequestTimeout) else []


async def _answer(send: Send, status: int, body: bytes, extra: Sequence[tuple[bytes, bytes]] = ()) -> None:
    headers = [*extra]
    if body:
        headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
