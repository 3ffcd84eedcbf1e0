"""Disk to bucket once a command has ended: everything of a rule, verified."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from kelpie.sync.disk import off_loop
from kelpie.sync.paths import Rule
from kelpie.sync.transfer import Transfer, for_each
from kelpie.sync.tree import Look, look
from kelpie.sync.upload import upload

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PushResult:
    """How many files were stored, and how many bytes their objects have."""

    files: int
    bytes: int


async def push_after(rule: Rule, transfer: Transfer) -> PushResult:
    """Upload every file of the rule as it is now; raise TransferFailed unless all are stored and verified."""
    found = await off_loop(look, rule)
    warn_of_skipped(found, set())
    if not found.files:
        _log.warning("nothing_to_upload", path=str(rule.local_path))
    sizes: list[int] = []

    async def store(relative: str) -> None:
        path = rule.root / relative
        stored = await upload(
            transfer,
            rule.bucket,
            rule.key_of(relative),
            path,
            compression=rule.compression,
            may_change=True,
        )
        sizes.append(stored.size)

    await for_each(found.files, store, at_once=transfer.concurrency)
    return PushResult(len(sizes), sum(sizes))


def warn_of_skipped(found: Look, warned: set[str]) -> None:
    """Say once what is passed over and why."""
    for relative, why in found.skipped.items():
        if relative not in warned:
            warned.add(relative)
            _log.warning("file_skipped", path=relative, reason=why)
