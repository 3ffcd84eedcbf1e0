"""Routes for whoever watches the server: is it alive, can it write."""

from __future__ import annotations

from litestar import Response, Router, get
from msgspec import Struct

from kelpie import __version__
from kelpie.server.openapi import Doc
from kelpie.server.services import Request, services_of
from kelpie.store.database import SQLITE_VERSION, sqlite_is_fixed
from kelpie.store.sweep import sweep_once


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


router = Router("/", route_handlers=[livez, readyz], tags=["health"])
