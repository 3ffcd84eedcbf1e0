"""What holds for every path, matched or not: request ids, authentication before 404, size limits.

Litestar's own middleware does not run for unmatched routes, so this wraps the
whole application.
"""

from __future__ import annotations

import itertools
import secrets
from typing import Any

import msgspec
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import Message, Receive, Scope, Send

from kelpie.errors import KelpieError, TooLarge
from kelpie.server.answers import encode, unexpected
from kelpie.server.auth import Gate
from kelpie.server.express import express
from kelpie.server.polling import ClientGone
from kelpie.server.services import Services
from kelpie.store.access import Caller

_OPEN = frozenset({"/livez", "/readyz", "/openapi.json", "/docs"})
_OPEN_PREFIX = "/docs/"


class Shell:
    """The outermost ASGI application."""

    def __init__(self, app: Litestar, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
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
        marked = _with_id(send, request_id)
        try:
            caller = self._admit(scope)
            status, content = await self._express(scope, receive, caller)
            if content is None:
                await self._app(scope, receive, marked)
            else:
                await _answer(marked, status, content)
        except KelpieError as error:
            await _answer(marked, error.status or KelpieError.status, encode(error))
        except ClientGone:
            # The server's own log would call an answer that nobody waits for an error.
            return

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

    def _admit(self, scope: Scope) -> Caller | None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_body_bytes:
            raise TooLarge(f"The request body may have at most {self._max_body_bytes} bytes.")
        path = scope["path"]
        if path in _OPEN or path.startswith(_OPEN_PREFIX):
            return None
        if self.gate is None:
            raise RuntimeError("The server has not started.")
        caller = self.gate.admit(headers)
        scope["caller"] = caller  # type: ignore[typeddict-unknown-key]
        return caller


def _drop_trailing_slash(scope: Any) -> None:
    path = scope["path"]
    if len(path) > 1 and path.endswith("/") and not path.endswith("//"):
        scope["path"] = path[:-1]
        scope["raw_path"] = scope["raw_path"].removesuffix(b"/")


def _with_id(send: Send, request_id: str) -> Send:
    header = (b"x-request-id", request_id.encode())

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], header]
        await send(message)

    return wrapped


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
