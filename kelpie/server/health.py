"""Routes for whoever watches the server: is it alive, can it write, how much does it do."""

from __future__ import annotations

from litestar import Response, Router, get
from msgspec import Struct

from kelpie import __version__
from kelpie.errors import NotAllowed
from kelpie.server.openapi import Doc
from kelpie.server.services import Request, caller_of, services_of
from kelpie.store.database import SQLITE_VERSION, sqlite_is_fixed
from kelpie.store.sweep import sweep_once

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health(Struct, kw_only=True):
    """What `/livez` and `/readyz` say."""

    status: str
    version: str
    sqlite: str
    sqlite_wal_fix: bool


@get("/livez", operation_id="get_Livez", summary="Is the process alive", opt=Doc().opt(), security=[])
async def livez() -> Health:
    """Answer as long as the process runs."""
    return _health("ok")


@get(
    "/readyz",
    operation_id="get_Readyz",
    summary="Can the server write",
    opt=Doc(errors=(503,)).opt(),
    security=[],
)
async def readyz(request: Request) -> Response[Health]:
    """Answer 200 when the database takes writes and the disk has room, 503 otherwise."""
    await sweep_once(services_of(request).store.database)
    if request.app.state.disk_is_full:
        return Response(_health("disk nearly full: no new jobs are taken"), status_code=503)
    return Response(_health("ok"))


def _health(status: str) -> Health:
    return Health(
        status=status,
        version=__version__,
        sqlite=SQLITE_VERSION,
        sqlite_wal_fix=sqlite_is_fixed(),
    )


async def _watchers(request: Request) -> None:
    if caller_of(request).scope not in {"admin", "read"}:
        raise NotAllowed("Metrics need a key with the scope `read` or `admin`.")


@get(
    "/metrics",
    before_request=_watchers,
    operation_id="get_Metrics",
    summary="Metrics for Prometheus",
    media_type="text/plain",
    opt=Doc(is_new=True).opt(),
)
async def get_metrics(request: Request) -> Response[bytes]:
    """Write the metrics of the whole server in the text format of Prometheus."""
    services = services_of(request)
    return Response(
        await services.metrics.render(services.store, waiters=services.signals.count),
        headers={"content-type": _METRICS_TYPE},
    )


router = Router("/", route_handlers=[livez, readyz, get_metrics], tags=["health"])
