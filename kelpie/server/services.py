"""What every handler needs, and how it gets it."""

from __future__ import annotations

from typing import Any

from litestar import Request as LitestarRequest
from litestar.datastructures import State
from msgspec import Struct

from kelpie.config import ServerConfig
from kelpie.server.following import Feed
from kelpie.server.metrics import Metrics
from kelpie.server.waiting import Signals
from kelpie.store.access import Caller
from kelpie.store.store import Store

Request = LitestarRequest[Any, Any, State]


class Services(Struct, frozen=True):
    """The parts of a running server."""

    config: ServerConfig
    store: Store
    signals: Signals
    metrics: Metrics
    feed: Feed


def services_of(request: Request) -> Services:
    """Find the running server's parts."""
    services: Services = request.app.state.services
    return services


def caller_of(request: Request) -> Caller:
    """Find who is asking."""
    caller: Caller = request.scope["caller"]  # type: ignore[typeddict-item]
    return caller
