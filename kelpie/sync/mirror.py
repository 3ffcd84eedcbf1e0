"""A directory kept in the bucket while a job runs: settled files up, single deletions after them.

Events are hints, scans are the truth. What is stored is only what was read
as one state of a file; what is deleted is only what this mirror stored or
found at the start.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Coroutine
from contextlib import aclosing, suppress

import structlog

from kelpie.sync.disk import off_loop
from kelpie.sync.faults import FileChanged
from kelpie.sync.ledger import Ledger
from kelpie.sync.paths import Rule
from kelpie.sync.push import PushResult, warn_of_skipped
from kelpie.sync.settle import Settling
from kelpie.sync.transfer import Transfer, first_failure, for_each
from kelpie.sync.tree import Look, identity_of, is_gone_alone, is_there, look, look_at
from kelpie.sync.upload import Stored, upload
from kelpie.sync.watch import hints

_log = structlog.get_logger()


async def take_baseline(rule: Rule) -> Look:
    """Note what the directory holds before the command starts: it is not uploaded unless it changes."""
    return await off_loop(look, rule)


class Mirror:
    """Pushes one rule's files while a job runs; `run` until the command ended, then `flush`.

    `uploads` and `last_stored_at` (epoch seconds, None before the first) say
    what reached the bucket so far.
    """

    def __init__(
        self,
        rule: Rule,
        transfer: Transfer,
        baseline: Look,
        *,
        debounce_ms: int = 0,
        max_wait_ms: int = 5000,
        stability_check_ms: int = 50,
        stability_checks: int = 4,
        scan_interval_s: float = 2.0,
        delete_wait_s: float = 1.0,
        settle_s: float = 2.0,
    ) -> None:
        self.uploads = 0
        self.bytes_stored = 0
        self.last_stored_at: float | None = None
        self._rule = rule
        self._transfer = transfer
        self._identity = baseline.identity
        self._hold_directory()
        self._ledger = Ledger(baseline.files)
        self._check_s = stability_check_ms / 1000
        self._settling = Settling(
            debounce_s=debounce_ms / 1000,
            max_wait_s=max_wait_ms / 1000,
            check_s=self._check_s,
            checks=stability_checks,
        )
        self._scan_interval_s = scan_interval_s
        self._delete_wait_s = delete_wait_s
        self._settle_s = settle_s
        self._next_scan = 0.0
        self._next_check = 0.0
        self._hinted: set[str] = set()
        self._wake = asyncio.Event()
        self._busy: set[str] = set()
        self._warned: set[str] = set()

    async def run(self) -> None:
        """Mirror until canceled; raise TransferFailed when something cannot be stored for good."""
        with first_failure():
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(), name=f"watch {self._rule.local_path}")
                while True:
                    await self._observe()
                    self._start_work(group)
                    await self._wait()

    async def flush(self, *, killed_at: float | None) -> PushResult:
        """Store what `run` left: last scan, every file that differs, then deletions.

        `killed_at` (epoch seconds) says that the command had to be killed: then
        nothing is deleted, and a file written within the settle time before it
        does not replace an object. Call it after `run` has ended.
        """
        uploads, stored_bytes = self.uploads, self.bytes_stored
        found = await off_loop(look, self._rule)
        warn_of_skipped(found, self._warned)
        if found.identity is None:
            _log.warning("directory_gone", path=str(self._rule.root))
            return PushResult(0, 0)
        dirty = [name for name, state in found.files.items() if not self._ledger.is_stored(name, state)]

        async def store(relative: str) -> None:
            written = found.files[relative].mtime_ns / 1e9
            if killed_at is None or not await self._is_doubtful(relative, written, killed_at):
                await self._store(relative, may_change=True)

        await for_each(dirty, store, at_once=self._transfer.concurrency)
        if killed_at is None:
            await self._flush_deletions(found)
        return PushResult(self.uploads - uploads, self.bytes_stored - stored_bytes)

    def _hold_directory(self) -> None:
        """Keep the directory's inode from being used again, so that its number identifies it."""
        with suppress(OSError):
            held = os.open(self._rule.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, held)

    async def _is_doubtful(self, relative: str, written: float, killed_at: float) -> bool:
        if written < killed_at - self._settle_s:
            return False
        key = self._rule.key_of(relative)
        if await self._transfer.ask(lambda: self._rule.bucket.head(key)) is None:
            return False
        _log.warning(
            "fresh_file_not_stored", path=relative, reason="the command was killed while it may have written"
        )
        return True

    async def _flush_deletions(self, found: Look) -> None:
        self._ledger.saw_all(found.files)
        self._ledger.vanished(set(self._ledger.stored) - set(found.files), time.monotonic())
        self._forget_emptied(wait_s=0)
        await for_each(self._ledger.missing, self._delete, at_once=self._transfer.concurrency)

    def _forget_emptied(self, *, wait_s: float) -> None:
        emptied = self._ledger.forget_emptied(time.monotonic(), wait_s)
        if emptied:
            _log.info("emptied_directory_not_mirrored", files=len(emptied), first=emptied[0])

    async def _listen(self) -> None:
        stream = hints(self._rule.root, recursive=self._rule.kind == "directory")
        async with aclosing(stream):
            async for relatives in stream:
                self._hint(relatives)

    def _hint(self, relatives: set[str]) -> None:
        self._hinted |= relatives
        self._wake.set()

    async def _wait(self) -> None:
        waits_for_check = len(self._settling) or self._ledger.missing
        until = min(self._next_scan, self._next_check) if waits_for_check else self._next_scan
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                await self._wake.wait()

    async def _observe(self) -> None:
        self._wake.clear()
        began = time.monotonic()
        wanted, self._hinted = self._hinted, set()
        is_scan = began >= self._next_scan
        if began >= self._next_check:
            wanted |= set(self._settling)
        if is_scan:
            found = await off_loop(look, self._rule)
            wanted = {*self._ledger.stored, *self._settling}
        else:
            found = await off_loop(look_at, self._rule, wanted)
        self._compare(found, wanted - set(found.files), time.monotonic())
        if is_scan:
            self._ledger.saw_all(found.files)
        else:
            self._ledger.saw(found.files)
        self._schedule(began, is_scan=is_scan)

    def _schedule(self, began: float, *, is_scan: bool) -> None:
        # A look at very many files may not become all that the machine does.
        now = time.monotonic()
        if is_scan:
            self._next_scan = now + max(self._scan_interval_s, 20 * (now - began))
        if began >= self._next_check:
            self._next_check = now + max(self._check_s, 2 * (now - began))

    def _compare(self, found: Look, absent: set[str], now: float) -> None:
        warn_of_skipped(found, self._warned)
        for relative, state in found.files.items():
            if relative in self._busy:
                continue
            if self._ledger.is_stored(relative, state):
                self._settling.forget(relative)
                self._ledger.settled(relative)
            else:
                self._ledger.differs(relative, now)
                urgent = self._ledger.came_whole(relative, state, absent)
                self._settling.reading(relative, state, now, urgent=urgent)
        for relative in absent:
            self._settling.forget(relative)
        self._ledger.vanished(absent - self._busy, now)

    def _start_work(self, group: asyncio.TaskGroup) -> None:
        now = time.monotonic()
        for relative in self._settling.due(now):
            if len(self._busy) >= 2 * self._transfer.concurrency:
                return
            self._settling.forget(relative)
            self._begin(group, relative, self._store_settled(relative))
        self._forget_emptied(wait_s=self._delete_wait_s)
        for relative in self._ledger.deletable(now, self._delete_wait_s):
            if relative not in self._busy:
                self._begin(group, relative, self._delete(relative))

    def _begin(self, group: asyncio.TaskGroup, relative: str, work: Coroutine[None, None, None]) -> None:
        self._busy.add(relative)
        task = group.create_task(work, name=f"mirror {relative}")
        task.add_done_callback(lambda _: self._end(relative))

    def _end(self, relative: str) -> None:
        self._busy.discard(relative)
        # It may have changed meanwhile.
        self._hint({relative})

    async def _store_settled(self, relative: str) -> None:
        try:
            await self._store(relative, may_change=False)
        except FileChanged as error:
            # It is looked at again at once, and waited for again.
            _log.debug("file_changed_while_read", path=relative, error=error.message)

    async def _store(self, relative: str, *, may_change: bool) -> None:
        rule = self._rule
        stored = await upload(
            self._transfer,
            rule.bucket,
            rule.key_of(relative),
            rule.root / relative,
            compression=rule.compression,
            may_change=may_change,
        )
        self._note(relative, stored)

    def _note(self, relative: str, stored: Stored) -> None:
        self._ledger.stored[relative] = stored.signature
        self._ledger.settled(relative)
        self.uploads += 1
        self.bytes_stored += stored.size
        self.last_stored_at = time.time()

    async def _delete(self, relative: str) -> None:
        key = self._rule.key_of(relative)

        async def delete_if_gone() -> None:
            # Looked at right before each try: the fence may have held this up for minutes.
            if await off_loop(self._is_deleted, relative):
                self._transfer.fence.confirm()
                await self._rule.bucket.delete(key)
                _log.info("deletion_mirrored", bucket=self._rule.bucket.name, key=key)

        await self._transfer.write(delete_if_gone)
        # Deleted, back again, or gone with its directory: in no case is anything left to do.
        if await off_loop(is_there, self._rule.root / relative):
            self._ledger.found_again(relative)
        else:
            self._ledger.drop(relative)

    def _is_deleted(self, relative: str) -> bool:
        rule = self._rule
        if self._identity is None or identity_of(rule.root) != self._identity:
            return False
        path = rule.root / relative
        # The very same file under a new key: nothing is lost even if its directory is gone.
        return is_gone_alone(path) or (self._ledger.was_moved(relative) and not is_there(path))
