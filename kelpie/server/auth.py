"""Who is asking: credentials to callers, and what each kind of key may do.

What a key may do is checked in Litestar's `before_request`, ahead of any
parameter: its guards copy the whole handler for each request, and run on a
thread when they are plain functions.
"""

from __future__ import annotations

import hmac

from kelpie.errors import InvalidRequest, NotAllowed, Unauthorized
from kelpie.server.services import Request, caller_of
from kelpie.store.access import KEY_PREFIX, Caller
from kelpie.store.store import Store

Headers = dict[bytes, bytes]


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
        key = _text(headers.get(b"x-kelpie-key", b""))
        bearer = _bearer(_text(headers.get(b"authorization", b"")))
        for candidate in (key, bearer):
            caller = self._known(candidate) if candidate else None
            if caller is not None:
                return caller
        if bearer.startswith(KEY_PREFIX):
            raise NotAllowed("Invalid API Key")
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


def _text(value: bytes) -> str:
    try:
        # The admin's key may be any text, and clients send text beyond ASCII as UTF-8.
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _bearer(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def managers(request: Request) -> None:
    """Let in keys that may change jobs."""
    if not caller_of(request).may_submit:
        raise NotAllowed("This key may not do this: it needs the scope `user` or `admin`.")


async def readers(request: Request) -> None:
    """Let in keys that may look at jobs."""
    if caller_of(request).scope == "worker":
        raise NotAllowed("A worker key may claim, heartbeat and report, only.")


async def workers(request: Request) -> None:
    """Let in keys that may work."""
    if caller_of(request).scope == "read":
        raise NotAllowed("A read key may not claim or report.")


async def admins(request: Request) -> None:
    """Let in admins."""
    if not caller_of(request).is_admin:
        raise NotAllowed("Admin Only")
