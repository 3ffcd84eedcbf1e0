"""Bucket to disk before a command starts: every object of a rule, or the one it names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from kelpie.sync.codec import SUFFIX
from kelpie.sync.disk import off_loop, require_space
from kelpie.sync.download import download
from kelpie.sync.objects import ObjectInfo
from kelpie.sync.paths import Rule, make_parents, safe_target
from kelpie.sync.transfer import Transfer, for_each

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PullResult:
    """How many files a pull wrote, and how many bytes the objects had."""

    files: int
    bytes: int


async def pull(rule: Rule, transfer: Transfer) -> PullResult:
    """Download what the rule names; nothing there is no error (no checkpoint yet).

    The directory exists afterwards in any case. Raises TransferFailed unless
    every object arrived whole.
    """
    chosen = await (_the_object(rule, transfer) if rule.kind == "file" else _objects(rule, transfer))
    placed = await off_loop(_place, rule, chosen)

    async def fetch(item: tuple[Path, ObjectInfo]) -> None:
        target, info = item
        await download(transfer, rule.bucket, info, target, unpack=rule.is_packed(info.key))

    await for_each(placed.items(), fetch, at_once=transfer.concurrency)
    return PullResult(len(placed), sum(info.size for info in placed.values()))


async def _objects(rule: Rule, transfer: Transfer) -> dict[str, ObjectInfo]:
    chosen: dict[str, ObjectInfo] = {}
    for info in await transfer.objects(rule.bucket, rule.prefix):
        relative = rule.relative_of(info.key)
        if relative is None:
            continue
        other = chosen.get(relative)
        if other is not None:
            # `a` and `a.gz` under compression: only one can be the file `a`.
            _log.warning("two_objects_for_one_file", bucket=rule.bucket.name, keys=[other.key, info.key])
        if other is None or info.modified >= other.modified:
            chosen[relative] = info
    return chosen


async def _the_object(rule: Rule, transfer: Transfer) -> dict[str, ObjectInfo]:
    name = rule.local_path.name
    packed = rule.key_of(name)
    for key in dict.fromkeys([packed, packed.removesuffix(SUFFIX) if rule.compression else packed]):
        info = await transfer.ask(partial(rule.bucket.head, key))
        if info is not None:
            return {name: info}
    # A HEAD cannot tell a missing object from a missing bucket.
    await transfer.ask(rule.bucket.check)
    _log.warning("object_not_there", bucket=rule.bucket.name, key=packed)
    return {}


def _place(rule: Rule, chosen: dict[str, ObjectInfo]) -> dict[Path, ObjectInfo]:
    make_parents(rule.root, [])
    placed = {safe_target(rule.root, relative): info for relative, info in chosen.items()}
    make_parents(rule.root, list(placed))
    replaced = sum(target.stat().st_size for target in placed if target.is_file())
    require_space(rule.root, sum(info.size for info in placed.values()) - replaced)
    return placed
