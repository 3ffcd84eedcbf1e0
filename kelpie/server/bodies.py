"""Reading request bodies: JSON whatever the content type says, refused with the path to the wrong field."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from litestar import Request

from kelpie.errors import InvalidFields, Issue

_Body = TypeVar("_Body")
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}  # making one costs more than using it
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`")


async def read(request: Request[Any, Any, Any], kind: type[_Body]) -> _Body:
    """Decode the body of a request; raises InvalidFields."""
    return decode(await request.body(), kind)


def decode(content: bytes, kind: type[_Body]) -> _Body:
    """Decode a body; an empty one counts as `{}`, as in the original. Raises InvalidFields."""
    try:
        body: _Body = _decoder(kind).decode(content or b"{}")
    except msgspec.ValidationError as error:
        raise InvalidFields([_issue(str(error))]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidFields([Issue("invalid_json", f"Expected JSON: {error}", ["body"])]) from error
    return body


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    if kind not in _DECODERS:
        _DECODERS[kind] = msgspec.json.Decoder(kind)
    return _DECODERS[kind]


def _issue(text: str) -> Issue:
    message, _, where = text.partition(" - at `")
    steps = _STEP.finditer(where.rstrip("`").removeprefix("$"))
    path: list[str | int] = ["body", *(step["name"] or int(step["index"]) for step in steps)]
    missing = _MISSING.match(message)
    if missing:
        return Issue("invalid_type", "Required", [*path, missing["name"]])
    code = "invalid_type" if message.startswith("Expected `") and ", got" in message else "invalid_value"
    return Issue(code, message.replace("`", ""), path)
