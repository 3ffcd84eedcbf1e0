"""One file into the bucket: whole or not at all, and verified."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import structlog

from kelpie.errors import TransferFailed
from kelpie.sync.codec import content_of
from kelpie.sync.disk import off_loop
from kelpie.sync.faults import NotVerified, UploadGone
from kelpie.sync.objects import Bucket, ObjectInfo
from kelpie.sync.source import Signature, Source
from kelpie.sync.transfer import Transfer, first_failure

# The protocol's limit is 10 000; compression may make a file a little longer.
_MOST_PARTS = 9_900
_ABORT_S = 10.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stored:
    """What an upload put into the bucket: the object's size, and the state of the file it was made from."""

    key: str
    size: int
    signature: Signature


async def upload(
    transfer: Transfer, bucket: Bucket, key: str, path: Path, *, compression: bool, may_change: bool = False
) -> Stored:
    """Put one file under one key; raise TransferFailed unless all of it is there, FileChanged if it moved.

    With `may_change` a file that changes while it is read is read again, a few times.
    """
    work = _Upload(transfer, bucket, key, path, compression=compression)
    async with transfer.files:
        return await transfer.restarting(work.once, may_change=may_change)


class _Upload:
    def __init__(
        self, transfer: Transfer, bucket: Bucket, key: str, path: Path, *, compression: bool
    ) -> None:
        self._transfer = transfer
        self._bucket = bucket
        self._key = key
        self._path = path
        self._compression = compression
        self._content = content_of(path.name, compression=compression)

    async def once(self) -> Stored:
        # Bytes read now would be old by the time the fence opens.
        await self._transfer.fence.wait_open()
        source = await off_loop(Source, self._path, compression=self._compression)
        try:
            small = source.signature.size <= self._transfer.part_bytes
            size = await (self._whole(source) if small else self._in_parts(source))
        finally:
            source.close()
        return Stored(self._key, size, source.signature)

    async def _whole(self, source: Source) -> int:
        async with self._transfer.memory.held(source.signature.size):
            body = await off_loop(_read_whole, source)
            confirmed = await self._transfer.write(lambda: self._bucket.write(self._key, body, self._content))
            size = len(body)
        self._transfer.count_out(size)
        # An MD5 from the store says more than a HEAD could, and halves the requests for small files.
        if not confirmed:
            self._verify(await self._head(), size)
        return size

    async def _in_parts(self, source: Source) -> int:
        upload_id = await self._transfer.write(lambda: self._bucket.start_parts(self._key, self._content))
        parts = _Parts()
        try:
            await self._send_all(source, upload_id, parts)
            await off_loop(source.require_one_state)
            await self._finish(upload_id, parts)
        except BaseException:
            await self._abort(upload_id)
            raise
        self._verify(await self._head(), parts.size)
        return parts.size

    async def _send_all(self, source: Source, upload_id: str, parts: _Parts) -> None:
        part_bytes = max(self._transfer.part_bytes, -(-source.signature.size // _MOST_PARTS))
        with first_failure():
            async with asyncio.TaskGroup() as group:
                while True:
                    part, held = await self._next_part(source, part_bytes)
                    if not part:
                        return
                    number = parts.add(part)
                    sending = group.create_task(
                        self._send(upload_id, number, part, parts), name=f"part {number} of {self._key}"
                    )
                    self._transfer.release_when_done(sending, held)

    async def _next_part(self, source: Source, part_bytes: int) -> tuple[bytes, int]:
        held = await self._transfer.memory.acquire(part_bytes)
        part = b""
        try:
            part = await off_loop(source.part, part_bytes)
        finally:
            if not part:
                self._transfer.memory.release(held)
        return part, held

    async def _send(self, upload_id: str, number: int, part: bytes, parts: _Parts) -> None:
        parts.etags[number - 1] = await self._transfer.write(
            lambda: self._bucket.write_part(self._key, upload_id, number, part)
        )
        self._transfer.count_out(len(part))

    async def _finish(self, upload_id: str, parts: _Parts) -> None:
        try:
            await self._transfer.write(lambda: self._bucket.finish_parts(self._key, upload_id, parts.etags))
        except UploadGone:
            # An answer that was lost on the way leaves a finished upload behind.
            info = await self._head()
            if info is None or info.size != parts.size or info.etag != parts.etag():
                raise

    async def _abort(self, upload_id: str) -> None:
        try:
            async with asyncio.timeout(_ABORT_S):
                await self._bucket.abort_parts(self._key, upload_id)
        except UploadGone:
            pass
        except (TransferFailed, TimeoutError) as error:
            # The parts cost money until the bucket's lifecycle rule removes them; the data is not at risk.
            _log.warning("parts_left_behind", bucket=self._bucket.name, key=self._key, error=str(error))

    async def _head(self) -> ObjectInfo | None:
        return await self._transfer.ask(lambda: self._bucket.head(self._key))

    def _verify(self, info: ObjectInfo | None, size: int) -> None:
        found = "is not there" if info is None else f"has {info.size} bytes"
        if info is None or info.size != size:
            raise NotVerified(
                f"s3://{self._bucket.name}/{self._key} {found} after {size} bytes were uploaded.",
                retryable=True,
            )


class _Parts:
    """The parts of one upload: their etags in order, their size, and the etag of the whole."""

    def __init__(self) -> None:
        self.etags: list[str] = []
        self.size = 0

    def add(self, part: bytes) -> int:
        self.etags.append("")
        self.size += len(part)
        return len(self.etags)

    def etag(self) -> str | None:
        try:
            md5s = b"".join(bytes.fromhex(etag.strip('"')) for etag in self.etags)
        except ValueError:
            return None
        return f"{hashlib.md5(md5s, usedforsecurity=False).hexdigest()}-{len(self.etags)}"


def _read_whole(source: Source) -> bytes:
    body = source.part(2 * source.signature.size + 1024)
    source.require_one_state()
    return body
