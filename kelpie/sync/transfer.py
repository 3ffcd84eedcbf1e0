"""How requests are made: limits, retries, the fence, and the counts of what went through.

What is asked is `download`'s and `upload`'s; when, is `pull`'s, `push`'s and
`mirror`'s. One Transfer serves everything that one worker moves, so that its
limits are the worker's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import stamina

from kelpie.errors import TransferFailed
from kelpie.sync.budget import Budget
from kelpie.sync.faults import FileChanged, StartOver
from kelpie.sync.fence import Fence
from kelpie.sync.objects import Bucket, ObjectInfo

T = TypeVar("T")

MEMORY_BYTES = 256 << 20
PART_BYTES = 16 << 20
_LONGEST_WAIT_S = 20.0
# How often a whole file is begun anew when its parts all got through and the whole did not.
_RESTARTS = 4


class Transfer:
    """Concurrency, memory budget, retries and counters, shared by all rules of a worker.

    `patience_s` bounds how long a passing fault may last; `memory_bytes` what
    is in flight at once; `fence` says whether plain keys may be written.
    `on_progress` is called with (bytes_in, bytes_out) as bytes get through.
    """

    def __init__(
        self,
        *,
        memory_bytes: int = MEMORY_BYTES,
        part_bytes: int = PART_BYTES,
        concurrency: int = 32,
        patience_s: float = 3600.0,
        retry_wait_s: float = 0.5,
        fence: Fence | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.part_bytes = part_bytes
        self.concurrency = concurrency
        # The libraries and the allocator were measured to hold about as much again.
        self.memory = Budget(memory_bytes // 2)
        self.files = asyncio.Semaphore(concurrency)
        self.fence = fence or Fence()
        self.bytes_in = 0
        self.bytes_out = 0
        self._requests = asyncio.Semaphore(concurrency)
        self._patience_s = patience_s
        self._retry_wait_s = retry_wait_s
        self._on_progress = on_progress

    async def ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request that changes nothing, again and again while its fault may pass."""
        return await self._patiently(request)

    async def write(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request that changes the bucket, only while the fence is open."""

        async def fenced() -> T:
            self.fence.confirm()
            return await request()

        return await self.fence.guard(lambda: self._patiently(fenced))

    async def restarting(self, whole: Callable[[], Awaitable[T]], *, may_change: bool = False) -> T:
        """Do a whole file, and begin anew a few times if that may help.

        A file that changes while it is read is begun anew only if `may_change`.
        """
        begin_anew = (StartOver, FileChanged) if may_change else StartOver
        async for attempt in self._attempts(lambda error: isinstance(error, begin_anew), _RESTARTS):
            with attempt:
                return await whole()
        raise AssertionError

    async def objects(self, bucket: Bucket, prefix: str) -> list[ObjectInfo]:
        """List a prefix, whole."""

        async def once() -> list[ObjectInfo]:
            return [info async for info in bucket.list(prefix)]

        return await self.ask(once)

    async def delete(self, bucket: Bucket, key: str) -> None:
        """Delete an object, only while the fence is open."""
        await self.write(lambda: bucket.delete(key))

    def release_when_done(self, task: asyncio.Task[None], held: int) -> None:
        """Give `held` bytes of memory back when a task ends.

        Not in the task itself: one that is canceled before it began has no `finally`.
        """
        task.add_done_callback(lambda _: self.memory.release(held))

    def count_in(self, amount: int) -> None:
        """Note bytes that arrived."""
        self.bytes_in += amount
        self._report()

    def count_out(self, amount: int) -> None:
        """Note bytes that the store took."""
        self.bytes_out += amount
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.bytes_in, self.bytes_out)

    async def _patiently(self, request: Callable[[], Awaitable[T]]) -> T:
        began = time.monotonic()
        try:
            async for attempt in self._attempts(_may_pass, None):
                with attempt:
                    async with self._requests:
                        return await request()
        except TransferFailed as error:
            waited_s = time.monotonic() - began
            if not _may_pass(error):
                raise
            raise TransferFailed(f"{error} Gave up after {waited_s:.0f} s.", retryable=True) from error
        raise AssertionError

    def _attempts(
        self, passing: Callable[[Exception], bool], attempts: int | None
    ) -> AsyncIterator[stamina.Attempt]:
        return aiter(
            stamina.retry_context(
                on=passing,
                attempts=attempts,
                timeout=self._patience_s,
                wait_initial=self._retry_wait_s,
                wait_jitter=self._retry_wait_s,
                wait_max=_LONGEST_WAIT_S,
            )
        )


def _may_pass(error: Exception) -> bool:
    over = isinstance(error, (StartOver, FileChanged))
    return isinstance(error, TransferFailed) and error.is_retryable and not over


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Do `work` for every item, so many at once; the first failure stops the rest and is raised."""
    rest = iter(items)

    async def worker() -> None:
        for item in rest:
            await work(item)

    with first_failure():
        async with asyncio.TaskGroup() as group:
            for number in range(at_once):
                group.create_task(worker(), name=f"transfer {number}")


@contextmanager
def first_failure() -> Iterator[None]:
    """Raise what went wrong first, not the group that a TaskGroup makes of it."""
    try:
        yield
    except BaseExceptionGroup as group:
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        raise cause from None
