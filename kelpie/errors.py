"""Every error Kelpie raises on purpose, and the one table between errors and HTTP.

The server reads the table forwards (error to status and title), the client
backwards (status and type to error). A library's own exception is translated
at the border of the room that uses the library and never crosses it.
"""

from __future__ import annotations

from typing import ClassVar


class KelpieError(Exception):
    """Something went wrong in a way a caller can act on; the message says what to do."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal server error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        if retryable is not None:
            self.is_retryable = retryable
        else:
            self.is_retryable = type(self).retryable


class InvalidRequest(KelpieError):
    """What was asked cannot be done as it was asked; asking again changes nothing."""

    code = "invalid-request"
    status = 400
    title = "Invalid request"


class InvalidFields(InvalidRequest):
    """One or more fields are wrong; `issues` says which, what was wrong and what is right."""

    code = "invalid-fields"

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__("; ".join(str(issue) for issue in issues))
        self.issues = issues


class Issue:
    """One wrong field: `path` begins with "body" or "query" and locates it."""

    def __init__(self, code: str, message: str, path: list[str | int]) -> None:
        self.code = code
        self.message = message
        self.path = path

    def __str__(self) -> str:
        """Read as `body.sync.before[0].direction: what is wrong`."""
        where = ""
        for step in self.path:
            where += f"[{step}]" if isinstance(step, int) else f".{step}"
        return f"{where.lstrip('.')}: {self.message}"


class Unauthorized(KelpieError):
    """No credential was presented."""

    code = "unauthorized"
    status = 401
    title = "Unauthorized"


class NotAllowed(KelpieError):
    """The credential is unknown, expired or revoked, or its scope is too narrow."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class NotFound(KelpieError):
    """The thing does not exist, or belongs to somebody else."""

    code = "not-found"
    status = 404
    title = "Not Found"


class Conflict(KelpieError):
    """The thing is in a state that does not allow this."""

    code = "conflict"
    status = 409
    title = "Conflict"


class LeaseLost(Conflict):
    """This attempt is not, or no longer, the live attempt of its job.

    `job_status` is the job's status now: "canceled" tells a holder that the
    job was canceled rather than given to another machine.
    """

    code = "lease-lost"

    def __init__(self, message: str, *, job_status: str = "") -> None:
        super().__init__(message)
        self.job_status = job_status


class AlreadyFinal(Conflict):
    """The job has ended and nothing but a retry moves it."""

    code = "already-final"


class TooLarge(KelpieError):
    """The request is larger than the server's limits."""

    code = "too-large"
    status = 413
    title = "Content Too Large"


class IdempotencyMismatch(KelpieError):
    """An Idempotency-Key came again with another body."""

    code = "idempotency-mismatch"
    status = 422
    title = "Unprocessable Content"


class RequestTimeout(KelpieError):
    """The body of the request did not come in time."""

    code = "request-timeout"
    status = 408
    title = "Request Timeout"
    retryable = True


class TooManyRequests(KelpieError):
    """Too many failed logins; `retry_after_s` says when to try again."""

    code = "too-many-requests"
    status = 429
    title = "Too Many Requests"
    retryable = True

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(KelpieError):
    """The server could not make the change durable; it did not happen."""

    code = "unavailable"
    status = 503
    title = "Service Unavailable"
    retryable = True


class StorageFull(KelpieError):
    """The server's disk is full; the change did not happen."""

    code = "storage-full"
    status = 507
    title = "Insufficient Storage"
    retryable = True


class Unreachable(KelpieError):
    """The server did not answer at all."""

    code = "unreachable"
    status = 0
    title = "Unreachable"
    retryable = True


class ConfigError(KelpieError):
    """A setting or flag is wrong: the message names it and what was expected."""

    code = "config"


class StoreError(KelpieError):
    """The database file cannot be used: the message says why and what to do."""

    code = "store"


class TransferFailed(KelpieError):
    """Bytes did not get from disk to bucket or back.

    `is_retryable` tells a passing fault (time-out, 5xx, throttling) from a
    final one (no such bucket, access denied, no space left).
    """

    code = "transfer-failed"


class ChildFailed(KelpieError):
    """The job's command could not be started."""

    code = "child-failed"


_WIRE_ERRORS: tuple[type[KelpieError], ...] = (
    InvalidRequest,
    Unauthorized,
    NotAllowed,
    NotFound,
    Conflict,
    AlreadyFinal,
    TooLarge,
    IdempotencyMismatch,
    RequestTimeout,
    TooManyRequests,
    Unavailable,
    StorageFull,
)


def error_from_wire(status: int, code: str, message: str, *, job_status: str = "") -> KelpieError:
    """Turn an HTTP answer back into the error the server raised."""
    if code == LeaseLost.code:
        return LeaseLost(message, job_status=job_status)
    for kind in _WIRE_ERRORS:
        if kind.code == code:
            return kind(message)
    for kind in _WIRE_ERRORS:
        if kind.status == status:
            return kind(message)
    # Proxies answer 408, 425, 429 and 5xx for faults that pass.
    passing = status >= KelpieError.status or status in {408, 425, 429}
    return KelpieError(message, retryable=passing)
