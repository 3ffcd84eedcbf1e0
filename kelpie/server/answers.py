"""Errors as answers: the two shapes of the wire contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler

from kelpie.errors import InvalidFields, InvalidRequest, Issue, KelpieError, LeaseLost, RequestTimeout
from kelpie.server.polling import ClientGone

log = structlog.get_logger()
_NOT_FOUND = 404
_METHOD_NOT_ALLOWED = 405
_TOO_LARGE = 413
_CLIENT_CLOSED = 499
_PROBLEM = "application/problem+json"


def body_of(error: KelpieError) -> dict[str, Any]:
    """Make the JSON body for an error."""
    if isinstance(error, InvalidFields):
        issues = [{"code": one.code, "message": one.message, "path": one.path} for one in error.issues]
        return {"errors": issues, "success": False, "result": {}}
    # The original titles a few errors by what they are about.
    title = error.message if error.message in {"User not found", "User exists"} else error.title
    body: dict[str, Any] = {"error": title, "message": error.message}
    if isinstance(error, BatchRefused):
        body["index"] = error.index
    if isinstance(error, LeaseLost):
        body |= {"type": error.code, "job_status": error.job_status}
    return body


def problem_of(error: KelpieError) -> dict[str, Any]:
    """Make the problem details (RFC 9457) for an error on a route the original does not have."""
    body: dict[str, Any] = {
        "type": error.code,
        "title": error.title,
        "status": error.status or KelpieError.status,
        "detail": error.message,
    }
    if isinstance(error, InvalidFields):
        body["errors"] = body_of(error)["errors"]
    if isinstance(error, LeaseLost):
        body["job_status"] = error.job_status
    return body


class BatchRefused(InvalidRequest):
    """One definition of a batch is wrong; none was submitted."""

    def __init__(self, message: str, *, index: int) -> None:
        super().__init__(message)
        self.index = index


def on_kelpie_error(request: Request[Any, Any, Any], error: KelpieError) -> Response[Any]:
    """Answer an error that was raised on purpose, in the shape of the route's family."""
    status = error.status or KelpieError.status
    # Absent when the framework refused the request before it had found a route.
    headers = {"connection": "close"} if isinstance(error, RequestTimeout) else None
    handler: BaseRouteHandler | None = dict(request.scope).get("route_handler")  # type: ignore[assignment]
    if handler is not None and handler.opt.get("is_new"):
        return Response(
            problem_of(error), status_code=status, media_type="application/problem+json", headers=headers
        )
    return Response(body_of(error), status_code=status, headers=headers)


def on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """Answer what the framework refused by itself."""
    if error.status_code in {_NOT_FOUND, _METHOD_NOT_ALLOWED}:
        return Response({"error": "Route Not Found"}, status_code=_NOT_FOUND)
    if isinstance(error, ValidationException):
        return on_kelpie_error(request, InvalidFields(_query_issues(error)))
    if error.status_code == _TOO_LARGE:
        message = "The request body is larger than this server accepts."
        return Response({"error": "Content Too Large", "message": message}, status_code=_TOO_LARGE)
    return Response({"error": "Bad Request", "message": error.detail}, status_code=error.status_code)


def on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Answer a defect in a handler."""
    return Response(unexpected(request.scope, error), status_code=500)


def on_client_gone(_request: Request[Any, Any, Any], _error: ClientGone) -> Response[None]:
    """Answer nobody: the framework wants an answer even where the server drops it."""
    return Response(None, status_code=_CLIENT_CLOSED)


def unexpected(scope: Any, error: Exception) -> dict[str, str]:
    """Log a defect with its trace, and make the body that gives the client an id to quote."""
    request_id = scope.get("request_id", "")
    log.error("unexpected_error", request_id=request_id, path=scope["path"], exc_info=error)
    return {
        "error": "Internal server error",
        "message": "Something went wrong on the server. Quote the request id when you report this.",
        "request_id": request_id,
    }


def encode(error: KelpieError) -> bytes:
    """Make the body for an answer given outside the framework."""
    return msgspec.json.encode(body_of(error))


def _query_issues(error: ValidationException) -> list[Issue]:
    extra = error.extra if isinstance(error.extra, list) else []
    issues = [
        Issue("invalid_value", str(item.get("message", error.detail)), ["query", str(item.get("key", ""))])
        for item in extra
        if isinstance(item, dict)
    ]
    if issues:
        return issues
    # "Missing required query parameter 'machine_id' for path /work?..."
    name = error.detail.split("'")[1] if "'" in error.detail else ""
    return [Issue("invalid_type", "Required", ["query", name])]


ALL: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]] = {
    KelpieError: on_kelpie_error,
    HTTPException: on_http_error,
    ClientGone: on_client_gone,
    Exception: on_unexpected,
}
"""Which function answers which kind of error."""
