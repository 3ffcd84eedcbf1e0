"""Checking a submission before it is stored: everything types cannot say."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, structs

from kelpie.contract import JobSpec, Sync, SyncRule
from kelpie.errors import InvalidFields, InvalidRequest, Issue, TooLarge
from kelpie.outgoing import url_problem
from kelpie.patterns import compile_pattern
from kelpie.server.answers import BatchRefused
from kelpie.server.names import refuse_wrong_names
from kelpie.store.clock import iso
from kelpie.store.relations import NewJob

_MS = 1000
_LEGACY = ("input", "checkpoint", "output")
_LEGACY_FIELDS = tuple(f"{name}_{part}" for name in _LEGACY for part in ("bucket", "prefix"))
_DIRECTIONS = {"before": "download", "during": "upload", "after": "upload"}
_MAX_FAILURES = 3
_HEARTBEAT_INTERVAL_S = 30
_MAX_INTERRUPTIONS = 20
_encode = msgspec.json.Encoder().encode
_Path = list[str | int]


def check_one(spec: JobSpec, *, max_bytes: int) -> NewJob:
    """Check a single submission; raises InvalidFields, InvalidRequest or TooLarge."""
    refuse_wrong_names([spec.after], batch=False)
    return _check(spec, ["body"], max_bytes)


def check_batch(specs: Sequence[JobSpec], *, max_bytes: int) -> list[NewJob]:
    """Check a batch; the first wrong definition refuses all, and its index is in the error."""
    checked: list[NewJob] = []
    for index, spec in enumerate(specs):
        try:
            checked.append(structs.replace(_check(spec, ["body", index], max_bytes), index=index))
        except InvalidFields:
            raise
        except InvalidRequest as error:
            raise BatchRefused(error.message, index=index) from error
    refuse_wrong_names([spec.after for spec in specs], batch=True)
    return checked


def _check(spec: JobSpec, path: _Path, max_bytes: int) -> NewJob:
    issues = [*_text_issues(spec, path), *_sync_issues(spec, path)]
    problem = url_problem(spec.webhook or "")
    if problem:
        issues.append(Issue("invalid_string", problem, [*path, "webhook"]))
    run_at = _run_at(spec, path, issues)
    if issues:
        raise InvalidFields(issues)
    _check_storage(spec)
    normal = _normalised(spec, run_at)
    definition = _encode(normal)
    if len(definition) > max_bytes:
        raise TooLarge(f"The job is {len(definition)} bytes long; at most {max_bytes} are accepted.")
    return NewJob(
        spec=normal,
        definition=definition.decode(),
        priority=spec.priority or 0,
        run_at=run_at,
        timeout_s=spec.timeout_s,
        max_failures=spec.max_failures or _MAX_FAILURES,
        max_interruptions=_MAX_INTERRUPTIONS if spec.max_interruptions is None else spec.max_interruptions,
        heartbeat_interval=spec.heartbeat_interval or _HEARTBEAT_INTERVAL_S,
    )


def _text_issues(spec: JobSpec, path: _Path) -> Iterator[Issue]:
    # The operating system ends every argument and variable at a NUL, so none can be passed on.
    for index, argument in enumerate([spec.command, *(spec.arguments or [])]):
        if "\0" in argument:
            where: _Path = ["command"] if index == 0 else ["arguments", index - 1]
            yield Issue("invalid_string", "Expected text without NUL characters", [*path, *where])
    for name, value in (spec.environment or {}).items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            message = "Expected a variable name without `=` and a value without NUL characters"
            yield Issue("invalid_string", message, [*path, "environment", name])


def _sync_issues(spec: JobSpec, path: _Path) -> Iterator[Issue]:
    for phase, index, rule in _rules(spec.sync):
        where: _Path = [*path, "sync", phase, index]
        problem = _path_problem(rule.local_path)
        if problem:
            yield Issue("invalid_string", problem, [*where, "local_path"])
        if "\0" in rule.prefix or "\0" in rule.bucket:
            yield Issue("invalid_string", "Expected text without NUL characters", [*where, "prefix"])
        if rule.kind == "file" and (not rule.prefix or rule.prefix.endswith("/")):
            message = 'Expected the key of one object, not ending in "/", because kind is "file"'
            yield Issue("invalid_string", message, [*where, "prefix"])
        if rule.pattern is not None:
            try:
                compile_pattern(rule.pattern)
            except InvalidRequest as error:
                yield Issue("invalid_string", error.message, [*where, "pattern"])


def _path_problem(local_path: str) -> str | None:
    if not local_path.strip() or "\0" in local_path:
        return "Expected a path that is not empty and has no NUL characters"
    if local_path.startswith("~"):
        return f"Expected a path without ~, which no shell expands here, got {local_path!r}"
    normal = posixpath.normpath(local_path)
    if normal.lstrip("/") == "" or normal == ".":
        return f"Expected a directory of its own for this job, got {local_path!r}"
    if normal == ".." or normal.startswith("../"):
        return f"Expected a path that does not lead out of the working directory, got {local_path!r}"
    return None


def _run_at(spec: JobSpec, path: _Path, issues: list[Issue]) -> int:
    if not spec.run_at:
        return 0
    try:
        moment = datetime.fromisoformat(spec.run_at)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(int(moment.timestamp() * _MS), 0)
    except (ValueError, OverflowError):
        message = "Expected a time such as 2026-01-31T08:00:00Z"
        issues.append(Issue("invalid_string", message, [*path, "run_at"]))
        return 0


def _check_storage(spec: JobSpec) -> None:
    legacy = [name for name in _LEGACY if _bucket(spec, name) or _prefix(spec, name)]
    if spec.sync is not None and legacy:
        raise InvalidRequest("Cannot use both sync and bucket/prefix")
    for name in legacy:
        if not (_bucket(spec, name) and _prefix(spec, name)):
            raise InvalidRequest(f"{name}_bucket and {name}_prefix must be given together")
    for phase, _, rule in _rules(spec.sync):
        if rule.direction != _DIRECTIONS[phase]:
            raise InvalidRequest(f'sync.{phase}.direction must be "{_DIRECTIONS[phase]}"')


def _rules(sync: Sync | None) -> Iterator[tuple[str, int, SyncRule]]:
    if sync is None:
        return
    for phase in _DIRECTIONS:
        rules = getattr(sync, phase)
        for index, rule in enumerate(rules if isinstance(rules, list) else []):
            yield phase, index, rule


def _bucket(spec: JobSpec, name: str) -> str | None:
    value: str | None = getattr(spec, f"{name}_bucket")
    return value or None


def _prefix(spec: JobSpec, name: str) -> str | None:
    value: str | None = getattr(spec, f"{name}_prefix")
    return value or None


def _normalised(spec: JobSpec, run_at: int) -> JobSpec:
    legacy = dict.fromkeys(_LEGACY_FIELDS) if spec.sync is not None else _normalised_legacy(spec)
    shown = iso(run_at) if spec.run_at else None
    return structs.replace(spec, sync=_normalised_sync(spec.sync), run_at=shown, **legacy)


def _normalised_legacy(spec: JobSpec) -> dict[str, str | None]:
    buckets = {f"{name}_bucket": _bucket(spec, name) for name in _LEGACY}
    return buckets | {f"{name}_prefix": _with_slash(_prefix(spec, name)) for name in _LEGACY}


def _normalised_sync(sync: Sync | None) -> Sync | None:
    if sync is None:
        return None
    return Sync(
        **{
            phase: [_normalised_rule(rule) for rule in rules] if isinstance(rules, list) else UNSET
            for phase in _DIRECTIONS
            for rules in [getattr(sync, phase)]
        }
    )


def _normalised_rule(rule: SyncRule) -> SyncRule:
    if rule.kind == "file":
        return rule
    return structs.replace(rule, prefix=_with_slash(rule.prefix) or "")


def _with_slash(prefix: str | None) -> str | None:
    # An empty prefix stays empty: it is the root of the bucket.
    return prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
