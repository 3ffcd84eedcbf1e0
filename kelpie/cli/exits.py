"""What an error means to whoever ran the command: one exit code and one sentence."""

from __future__ import annotations

from enum import IntEnum

from kelpie.cli.text import tell
from kelpie.errors import (
    ConfigError,
    Conflict,
    IdempotencyMismatch,
    InvalidFields,
    InvalidRequest,
    Issue,
    KelpieError,
    NotAllowed,
    NotFound,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unreachable,
)


class ExitCode(IntEnum):
    """How `kelpie` ends; scripts rely on these numbers."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    CONFLICT = 5
    UNREACHABLE = 6
    CANCELED = 7
    TIMED_OUT = 124  # as timeout(1)
    INTERRUPTED = 130


_CODES: tuple[tuple[type[KelpieError], ExitCode], ...] = (
    (InvalidRequest, ExitCode.USAGE),
    (TooLarge, ExitCode.USAGE),
    (ConfigError, ExitCode.USAGE),
    (Unauthorized, ExitCode.NOT_ALLOWED),
    (NotAllowed, ExitCode.NOT_ALLOWED),
    (NotFound, ExitCode.NOT_FOUND),
    (Conflict, ExitCode.CONFLICT),
    (IdempotencyMismatch, ExitCode.CONFLICT),
    (Unreachable, ExitCode.UNREACHABLE),
    (Unavailable, ExitCode.UNREACHABLE),
)


def report(error: BaseException) -> ExitCode:
    """Say on stderr what went wrong; the exit code to end with."""
    error = _first(error)
    tell(_sentence(error))
    return exit_code(error)


def exit_code(error: BaseException) -> ExitCode:
    """The exit code that stands for `error`."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def _first(error: BaseException) -> BaseException:
    # A TaskGroup wraps what its tasks raised; the first one is the cause of the rest.
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted."
    if isinstance(error, InvalidFields):
        return "\n  ".join(["Refused, because of:", *map(_wrong_field, error.issues)])
    if isinstance(error, NotAllowed) and error.message == "Invalid API Key":
        return (
            "Invalid API Key: KELPIE_API_KEY is unknown to this server, was revoked or has expired."
            " `kelpie admin key create` on the server's machine makes another."
        )
    if isinstance(error, KelpieError):
        return error.message if error.message.endswith((".", "!", "?", "\n")) else f"{error.message}."
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    kind = type(error).__name__
    return f"Kelpie met an error it did not expect ({kind}: {error}); `kelpie --traceback …` shows where."


def _wrong_field(issue: Issue) -> str:
    # Where the field stood in the request says nothing to a person who wrote flags or a file.
    path = issue.path[1:] if issue.path[:1] in (["body"], ["query"]) else issue.path
    return str(Issue(issue.code, issue.message, path)).removeprefix(": ")
