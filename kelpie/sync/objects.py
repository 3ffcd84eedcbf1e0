"""What sync needs of an object store: a bucket's few requests, and the values they speak of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing; `modified` in epoch seconds, `etag` without quotes ("" if unknown)."""

    key: str
    size: int
    modified: float
    etag: str


@dataclass(frozen=True, slots=True)
class Content:
    """How an object's bytes are to be understood by its readers."""

    type: str
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes read from an object, and the MD5 of the whole object when the store is known to give it."""

    data: bytes | bytearray
    object_md5: str | None


class Bucket(Protocol):
    """One bucket of an object store; every method raises TransferFailed and nothing else."""

    @property
    def name(self) -> str:
        """The bucket's name."""

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield every object whose key begins with `prefix`."""

    async def head(self, key: str) -> ObjectInfo | None:
        """Describe one object; None if there is none (or no bucket: see `check`)."""

    async def read(self, info: ObjectInfo, start: int, length: int) -> Piece:
        """Read a range of exactly the object `info` describes; ObjectChanged if it was replaced."""

    async def write(self, key: str, body: bytes, content: Content) -> bool:
        """Create or replace one object, whole or not at all; True if the store named the body's MD5."""

    async def start_parts(self, key: str, content: Content) -> str:
        """Begin a multipart upload and return its id."""

    async def write_part(self, key: str, upload_id: str, number: int, body: bytes) -> str:
        """Store one part (numbered from 1) and return its etag."""

    async def finish_parts(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Turn the parts into the object; UploadGone if the store does not know the upload."""

    async def abort_parts(self, key: str, upload_id: str) -> None:
        """Throw the parts away."""

    async def delete(self, key: str) -> None:
        """Delete one object; none is no error."""

    async def check(self) -> None:
        """Raise TransferFailed unless the bucket exists and may be used."""
