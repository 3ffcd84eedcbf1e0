"""Jobs as people write them down: JSON or TOML read, and every wrong field named.

The server ignores fields it does not know; a person's typo must not be
ignored, so unknown fields are refused here, with the one that was meant.
"""

from __future__ import annotations

import difflib
import json
import sys
import tomllib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, Struct, UnsetType

from kelpie.contract import MAX_BATCH, JobSpec
from kelpie.errors import InvalidFields, InvalidRequest, Issue

_Path = list[str | int]

# What people write for fields whose names are far from it.
_MEANT = {
    "args": "arguments",
    "cmd": "command",
    "env": "environment",
    "group": "container_group_id",
    "queue": "container_group_id",
    "retries": "max_failures",
    "timeout": "timeout_s",
}


def read_jobs(name: str) -> tuple[list[Any], bool]:
    """The jobs of a file (`-`: stdin), and whether it is a batch; raises InvalidRequest."""
    content = _parse(name, _read(name))
    if isinstance(content, list):
        found, batch = content, True
    elif isinstance(content, dict) and "jobs" in content:
        found, batch = _jobs_table(name, content), True
    else:
        found, batch = [content], False
    if not 1 <= len(found) <= MAX_BATCH:
        raise InvalidRequest(f"{name} holds {len(found)} jobs; a submission takes 1 to {MAX_BATCH}.")
    return found, batch


def checked(jobs: list[Any], *, batch: bool) -> list[JobSpec]:
    """The jobs as the server takes them; raises InvalidFields naming every wrong field."""
    issues: list[Issue] = []
    for number, job in enumerate(jobs):
        issues.extend(_wrong(job, JobSpec, ["jobs", number] if batch else []))
    if issues:
        raise InvalidFields(issues)
    return [msgspec.convert(job, JobSpec) for job in jobs]


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not text in UTF-8.") from error


def _parse(name: str, text: str) -> Any:
    if name.endswith(".toml"):
        return _toml(name, text)
    try:
        return json.loads(text)
    except ValueError as error:
        # stdin has no suffix to tell by; JSON begins with a brace, or a bracket that TOML would double.
        if name.endswith(".json") or text.lstrip().startswith("{"):
            raise InvalidRequest(f"{name} is not valid JSON: {error}.") from error
        return _toml(name, text)


def _toml(name: str, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{name} is not valid TOML: {error}.") from error


def _jobs_table(name: str, content: dict[str, Any]) -> list[Any]:
    others = [key for key in content if key != "jobs"]
    if others:
        raise InvalidRequest(f"{name}: nothing stands beside `jobs`, but there is `{others[0]}`.")
    jobs = content["jobs"]
    if not isinstance(jobs, list):
        raise InvalidRequest(f"{name}: `jobs` must be a list: [[jobs]] in TOML, an array in JSON.")
    return jobs


def _wrong(value: Any, hint: Any, path: _Path) -> Iterator[Issue]:
    """Every wrong field of `value`: the inner ones first, the whole only if those are right."""
    inner = list(_wrong_inside(value, _bare(hint), path))
    yield from inner
    if inner:
        return
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        yield Issue("invalid", _expectation(value, _bare(hint), error), path)


def _wrong_inside(value: Any, bare: Any, path: _Path) -> Iterator[Issue]:
    if isinstance(value, dict) and isinstance(bare, type) and issubclass(bare, Struct):
        yield from _wrong_fields(value, bare, path)
    elif isinstance(value, dict) and get_origin(bare) is dict:
        for key, item in value.items():
            yield from _wrong(item, get_args(bare)[1], [*path, key])
    elif isinstance(value, list) and get_origin(bare) is list:
        for number, item in enumerate(value):
            yield from _wrong(item, get_args(bare)[0], [*path, number])


def _wrong_fields(value: dict[str, Any], kind: type[Struct], path: _Path) -> Iterator[Issue]:
    hints = get_type_hints(kind, include_extras=True)
    for name, item in value.items():
        if name in hints:
            yield from _wrong(item, hints[name], [*path, name])
        else:
            yield Issue("unknown", _unknown(name, list(hints)), [*path, name])
    for field in msgspec.structs.fields(kind):
        if field.required and field.default is NODEFAULT and field.name not in value:
            yield Issue("missing", "required, but missing", [*path, field.name])


def _unknown(name: str, known: list[str]) -> str:
    meant = _MEANT.get(name)
    near = [meant] if meant in known else difflib.get_close_matches(name, known, n=1)
    return "no such field; " + (f"did you mean `{near[0]}`?" if near else "there are " + ", ".join(known))


def _bare(hint: Any) -> Any:
    """The type inside `Annotated[...]` and `... | None`."""
    if get_origin(hint) is Annotated:
        return _bare(get_args(hint)[0])
    if get_origin(hint) in {Union, UnionType}:
        kinds = [kind for kind in get_args(hint) if kind not in {NoneType, UnsetType}]
        return _bare(kinds[0]) if len(kinds) == 1 else hint
    return hint


def _expectation(value: Any, bare: Any, error: msgspec.ValidationError) -> str:
    if get_origin(bare) is Literal:
        return f"expected one of {', '.join(get_args(bare))}; got {value!r}"
    if isinstance(value, datetime):
        return 'expected a time in quotes: "2026-01-31T18:00:00Z"'
    said = str(error).replace("`", "").replace("Expected", "expected", 1).replace(" | null", "")
    # Numbers are shown; text is not, for it may be a secret of the environment.
    return f"{said}; got {value}" if isinstance(value, int | float) and ", got" not in said else said
