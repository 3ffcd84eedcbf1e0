"""Cross-origin requests, as configured: a preflight is answered without a key, other origins get nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

Headers = list[tuple[bytes, bytes]]
_METHODS = b"GET, POST, PUT, PATCH, DELETE"
_ALLOWED = (
    b"authorization, content-type, idempotency-key, last-event-id, salad-api-key, salad-organization, "
    b"salad-project, x-kelpie-key"
)
_EXPOSED = b"idempotent-replayed, retry-after, x-request-id"
_DAY_S = b"86400"


class Cors:
    """The origins whose pages may read answers; `*` is all of them."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def headers(self, headers: dict[bytes, bytes]) -> Headers:
        """Make the headers of an answer to this request; none for an origin that is not allowed."""
        if not self._origins:
            return []
        # A cache must not hand one origin's answer to another.
        vary = [(b"vary", b"Origin")]
        origin = headers.get(b"origin")
        if origin is None or not self._origins & {"*", origin.decode("latin-1").lower()}:
            return vary
        return [
            *vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
        ]

    def preflight(self, scope: Any, headers: dict[bytes, bytes]) -> Headers | None:
        """Make the headers of the answer to a preflight; None when this is none, or not for this origin."""
        if scope["method"] != "OPTIONS" or b"access-control-request-method" not in headers:
            return None
        allowed = self.headers(headers)
        if len(allowed) <= 1:
            return None
        return [
            *allowed,
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _ALLOWED),
            (b"access-control-max-age", _DAY_S),
        ]
