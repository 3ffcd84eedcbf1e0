"""The OpenAPI document: Litestar's, completed with request bodies and error answers.

Handlers read bodies themselves (whatever the content type, with the paths of
the wire contract), so the framework cannot see their shape; each route names
it in a `Doc` instead.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from litestar import Litestar, Response, Router, get
from litestar.enums import MediaType
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, Reference, SecurityScheme

from kelpie import __version__
from kelpie.server.services import Request

_REF = "#/components/schemas/{name}"
_DESCRIPTIONS = {
    400: "Refused: the body says which field is wrong and what would be right",
    401: "No key was presented",
    403: "The key is unknown, or its scope is too narrow",
    404: "It does not exist, or belongs to somebody else",
    408: "The request body did not come in time",
    409: "The state of the job does not allow this",
    413: "Larger than this server accepts",
    422: "The Idempotency-Key came before with another body",
    429: "Too many failed logins from this address",
    503: "The change could not be made durable and did not happen",
    507: "The server's disk is full",
}


_FAMILIES = {False: ("Problem", "application/json"), True: ("ProblemDetails", "application/problem+json")}


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An error: `error` is its title, `message` says what to do; refused fields are in `errors`."""

    error: str = ""
    message: str = ""
    type: str = ""
    job_status: str = ""
    errors: list[dict[str, Any]] = []


class ProblemDetails(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An error on a route the original does not have (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    job_status: str = ""
    errors: list[dict[str, Any]] = []


class Doc(msgspec.Struct, frozen=True):
    """What a route tells the document beside its signature."""

    body: Any = None
    errors: tuple[int, ...] = ()
    is_new: bool = False
    """Whether the original lacks this route: its errors are then problem details (RFC 9457)."""

    def opt(self) -> dict[str, Any]:
        """Attach this to a handler."""
        return {"doc": self, "is_new": self.is_new}


def openapi_config() -> OpenAPIConfig:
    """Describe the API as a whole."""
    schemes: dict[str, SecurityScheme | Reference] = {
        "apiKey": SecurityScheme(type="apiKey", name="X-Kelpie-Key", security_scheme_in="header"),
        "bearer": SecurityScheme(type="http", scheme="bearer"),
    }
    return OpenAPIConfig(
        title="Kelpie API",
        version=__version__,
        description="Shepherds long jobs to completion on machines that vanish.",
        components=Components(security_schemes=schemes),
        security=[{"apiKey": []}, {"bearer": []}],
        # The framework serves pages of its own, with assets from a CDN; ours are /docs and /openapi.json.
        openapi_router=Router(
            "/_framework_schema", route_handlers=[], include_in_schema=False, before_request=_hide
        ),
    )


async def _hide(_: Request) -> None:
    raise NotFoundException


@get("/openapi.json", include_in_schema=False, opt={"open": True})
async def openapi_json(request: Request) -> Response[bytes]:
    """Serve the document."""
    return Response(_document(request.app), media_type=MediaType.JSON)


@cache
def _document(app: Litestar) -> bytes:
    document: dict[str, Any] = app.openapi_schema.to_schema()
    schemas = document["components"].setdefault("schemas", {})
    docs = {
        handler.operation_id: handler.opt["doc"]
        for route in app.routes
        for handler in getattr(route, "route_handlers", [])
        if "doc" in handler.opt
    }
    bodies = {name: doc.body for name, doc in docs.items() if doc.body is not None}
    described, components = msgspec.json.schema_components(
        [*bodies.values(), Problem, ProblemDetails], ref_template=_REF
    )
    schemas.update(components)
    body_schemas = dict(zip(bodies, described, strict=False))
    for path in document["paths"].values():
        for operation in path.values():
            _complete(operation, docs.get(operation.get("operationId")), body_schemas)
    return msgspec.json.encode(document)


def _complete(operation: dict[str, Any], doc: Doc | None, bodies: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("400", None)
    is_open = operation.get("security") == []
    for status in (*(doc.errors if doc else ()), *(() if is_open else (401, 403))):
        # Keys are checked before routes are known, so their refusals have one shape everywhere.
        is_new = doc is not None and doc.is_new and status not in {401, 403}
        name, media_type = _FAMILIES[is_new]
        responses[str(status)] = {
            "description": _DESCRIPTIONS[status],
            "content": {media_type: {"schema": {"$ref": _REF.format(name=name)}}},
        }
    body = bodies.get(operation["operationId"])
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}


router = Router("/", route_handlers=[openapi_json])
