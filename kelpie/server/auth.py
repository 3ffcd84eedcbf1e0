"""Who is asking: credentials to callers, and what each kind of key may do."""

from __future__ import annotations

import hmac
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from kelpie.errors import InvalidRequest, NotAllowed, Unauthorized
from kelpie.store.access import Caller
from kelpie.store.store import Store

Headers = dict[bytes, bytes]
_Connection = ASGIConnection[Any, Any, Any, Any]


class BadRequest(InvalidRequest):
    """A credential is missing its companions."""

    title = "Bad Request"


class Gate:
    """Turns the headers of a request into a caller."""

    def __init__(self, store: Store, local_secret: str) -> None:
        self._store = store
        self._local_secret = local_secret

    def admit(self, headers: Headers) -> Caller:
        """Find the caller; raises Unauthorized, BadRequest or NotAllowed as the original would."""
        key = headers.get(b"x-kelpie-key", b"").decode("latin-1")
        bearer = _bearer(headers.get(b"authorization", b"").decode("latin-1"))
        for candidate in (key, bearer):
            caller = self._known(candidate) if candidate else None
            if caller is not None:
                return caller
        self._refuse_half_a_credential(headers)
        if key:
            raise NotAllowed("Invalid API Key")
        if bearer or headers.get(b"salad-api-key"):
            raise NotAllowed("This server accepts Kelpie keys only. Send yours in X-Kelpie-Key.")
        raise Unauthorized("API Key or Bearer Token Required")

    def _known(self, key: str) -> Caller | None:
        if hmac.compare_digest(key.encode(), self._local_secret.encode()):
            return self._store.local_admin()
        return self._store.caller(key)

    def _refuse_half_a_credential(self, headers: Headers) -> None:
        has_project = bool(headers.get(b"salad-project"))
        if headers.get(b"salad-api-key") and not (headers.get(b"salad-organization") and has_project):
            raise BadRequest("Salad API Key requires Salad-Organization and Salad-Project headers")
        if headers.get(b"authorization") and not has_project:
            raise BadRequest("Bearer Token requires Salad-Project header")


def _bearer(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def caller_of(connection: _Connection) -> Caller:
    """Read the caller that the gate found."""
    caller: Caller = connection.scope["caller"]  # type: ignore[typeddict-item]
    return caller


def managers(connection: _Connection, _handler: BaseRouteHandler) -> None:
    """Let in keys that may change jobs."""
    if not caller_of(connection).may_submit:
        raise NotAllowed("This key may not do this: it needs the scope `user` or `admin`.")


def readers(connection: _Connection, _handler: BaseRouteHandler) -> None:
    """Let in keys that may look at jobs."""
    if caller_of(connection).scope == "worker":
        raise NotAllowed("A worker key may claim, heartbeat and report, only.")


def workers(connection: _Connection, _handler: BaseRouteHandler) -> None:
    """Let in keys that may work."""
    if caller_of(connection).scope == "read":
        raise NotAllowed("A read key may not claim or report.")


def admins(connection: _Connection, _handler: BaseRouteHandler) -> None:
    """Let in admins."""
    if not caller_of(connection).is_admin:
        raise NotAllowed("Admin Only")
