"""Swagger UI at /docs, from files of this package: no asset comes from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib import resources

from litestar import Response, Router, get
from litestar.exceptions import NotFoundException

_FILES = {
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript"),
    "docs.js": ("docs.js", "text/javascript"),
}
_HEADERS = {
    # Swagger UI draws its icons as data: images and styles elements inline.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
}


@get("/docs", include_in_schema=False)
async def docs() -> Response[bytes]:
    """Show the API."""
    return Response(_read("docs.html"), media_type="text/html", headers=_HEADERS)


@get("/docs/{name:str}", include_in_schema=False)
async def docs_file(name: str) -> Response[bytes]:
    """Serve a file of the page."""
    if name not in _FILES:
        raise NotFoundException
    path, media_type = _FILES[name]
    return Response(_read(path), media_type=media_type, headers=_HEADERS)


@cache
def _read(path: str) -> bytes:
    return (resources.files("kelpie.server") / "static" / path).read_bytes()


router = Router("/", route_handlers=[docs, docs_file])
