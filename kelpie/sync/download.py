"""One object onto the disk: under its name only when all of it is there, and verified."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from kelpie.errors import TransferFailed
from kelpie.sync.codec import Unpacker
from kelpie.sync.disk import Arrival, off_loop, require_reserve, require_space, store_whole
from kelpie.sync.faults import NotVerified, ObjectChanged
from kelpie.sync.objects import Bucket, ObjectInfo
from kelpie.sync.transfer import Transfer, first_failure

# What is hashed or unpacked in one thread call: short, so that a cancellation is.
_STEP_BYTES = 32 << 20


async def download(
    transfer: Transfer, bucket: Bucket, info: ObjectInfo, target: Path, *, unpack: bool
) -> None:
    """Fetch one object to `target`, whose directory exists; raise TransferFailed unless it is whole."""
    work = _Download(transfer, bucket, info, target, unpack=unpack)
    async with transfer.files:
        await transfer.restarting(work.once)


class _Download:
    def __init__(
        self, transfer: Transfer, bucket: Bucket, info: ObjectInfo, target: Path, *, unpack: bool
    ) -> None:
        self._transfer = transfer
        self._bucket = bucket
        self._info = info
        self._target = target
        self._unpack = unpack

    async def once(self) -> None:
        try:
            if self._info.size <= self._transfer.part_bytes and not self._unpack:
                await self._small()
            else:
                await self._large()
        except ObjectChanged:
            await self._look_again()
            raise

    async def _look_again(self) -> None:
        info = await self._transfer.ask(lambda: self._bucket.head(self._info.key))
        if info is None:
            raise TransferFailed(f"{self._at()} was deleted while it was downloaded.", retryable=False)
        self._info = info

    async def _small(self) -> None:
        async with self._transfer.memory.held(self._info.size):
            data, md5 = await self._read(0, self._info.size)
            if not await off_loop(store_whole, self._target, data, self._info.modified, md5):
                raise self._corrupt()

    async def _large(self) -> None:
        await off_loop(require_space, self._target.parent, self._info.size)
        arrival = await off_loop(Arrival, self._target)
        try:
            md5 = await self._fetch(arrival)
            await self._verify(arrival, md5)
            if self._unpack:
                await self._publish_unpacked(arrival)
            else:
                await off_loop(arrival.publish, self._info.modified)
        finally:
            arrival.close()

    async def _fetch(self, arrival: Arrival) -> str | None:
        md5s: set[str | None] = set()
        with first_failure():
            async with asyncio.TaskGroup() as group:
                for start in range(0, self._info.size, self._transfer.part_bytes):
                    length = min(self._transfer.part_bytes, self._info.size - start)
                    held = await self._transfer.memory.acquire(length)
                    fetching = group.create_task(
                        self._fetch_range(arrival, start, length, md5s), name=f"range {start} of {self._at()}"
                    )
                    self._transfer.release_when_done(fetching, held)
        return md5s.pop() if len(md5s) == 1 else None

    async def _fetch_range(self, arrival: Arrival, start: int, length: int, md5s: set[str | None]) -> None:
        data, md5 = await self._read(start, length)
        md5s.add(md5)
        await off_loop(arrival.write, data, start)

    async def _read(self, start: int, length: int) -> tuple[bytes | bytearray, str | None]:
        if not length:
            return b"", None
        piece = await self._transfer.ask(lambda: self._bucket.read(self._info, start, length))
        self._transfer.count_in(length)
        return piece.data, piece.object_md5

    async def _verify(self, arrival: Arrival, md5: str | None) -> None:
        if md5 is None:
            return
        digest = hashlib.md5(usedforsecurity=False)
        for start in range(0, self._info.size, _STEP_BYTES):
            await off_loop(arrival.update, digest, start, min(start + _STEP_BYTES, self._info.size))
        if digest.hexdigest() != md5:
            raise self._corrupt()

    async def _publish_unpacked(self, packed: Arrival) -> None:
        unpacker = Unpacker(self._at())
        unpacked = await off_loop(Arrival, self._target)
        try:
            size = 0
            for start in range(0, self._info.size, _UNPACK_BYTES):
                unpacker.feed(await off_loop(packed.read, _UNPACK_BYTES, start))
                while data := await off_loop(unpacker.step, _UNPACK_BYTES):
                    await off_loop(require_reserve, self._target.parent, len(data))
                    await off_loop(unpacked.write, data, size)
                    size += len(data)
            unpacker.finish()
            await off_loop(unpacked.publish, self._info.modified)
        finally:
            unpacked.close()

    def _at(self) -> str:
        return f"s3://{self._bucket.name}/{self._info.key}"

    def _corrupt(self) -> NotVerified:
        return NotVerified(f"{self._at()} arrived with another MD5 than the store names.", retryable=True)


_UNPACK_BYTES = 4 << 20
