"""Gzip and content types: what an object is called and how its bytes are packed.

igzip's fast level: weights compress by 8 % at any level, and a slower one
would be the bottleneck of every upload.
"""

from __future__ import annotations

import mimetypes
from typing import cast

from isal import igzip_lib, isal_zlib

from kelpie.errors import TransferFailed
from kelpie.sync.objects import Content

SUFFIX = ".gz"
_GZIP = 31  # zlib's code for "a gzip header and trailer"
_LEVEL = 1
# Its stub calls the exception class an exception.
_BROKEN = cast("type[Exception]", isal_zlib.error)
_UNKNOWN = "application/octet-stream"

# Not the system's tables: the same name must give the same type on every machine.
_TYPES = mimetypes.MimeTypes()


def content_of(name: str, *, compression: bool) -> Content:
    """Describe the file `name` (its uncompressed name) as an object."""
    kind, encoding = _TYPES.guess_type(name)
    # A .tar.gz is opaque bytes here: its gzip layer is the file's own.
    if kind is None or encoding is not None:
        kind = "application/gzip" if encoding == "gzip" else _UNKNOWN
    return Content(kind, "gzip" if compression else None)


def checksum(data: bytes, before: int) -> int:
    """Continue a CRC-32: it costs next to nothing and tells whether a file was written to."""
    return int(isal_zlib.crc32(data, before))


class Packer:
    """Compresses a stream of bytes into one gzip member."""

    def __init__(self) -> None:
        self._compressor = isal_zlib.compressobj(_LEVEL, wbits=_GZIP)

    def pack(self, data: bytes) -> bytes:
        """Return what is ready of the compressed stream."""
        return bytes(self._compressor.compress(data))

    def finish(self) -> bytes:
        """Return the rest of the compressed stream."""
        return bytes(self._compressor.flush())


class Unpacker:
    """Decompresses a gzip stream of one or more members, in steps of bounded size."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._member = _member()
        self._pending = b""
        self._began = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the compressed stream; only after `step` returned nothing."""
        self._pending += data
        self._began = self._began or bool(data)

    def step(self, limit: int) -> bytes:
        """Return up to `limit` unpacked bytes; empty when more must be fed."""
        while True:
            if self._member.eof and not self._next_member():
                return b""
            if self._member.needs_input and not self._pending:
                return b""
            if data := self._inflate(limit):
                return data

    def finish(self) -> None:
        """Raise TransferFailed unless the stream ended where a member ends."""
        if self._began and not self._member.eof:
            raise self._broken("it ends too early")

    def _inflate(self, limit: int) -> bytes:
        data, self._pending = self._pending, b""
        try:
            unpacked = bytes(self._member.decompress(data, limit))
        except (_BROKEN, EOFError) as error:
            raise self._broken(str(error)) from error
        if self._member.eof:
            self._pending = self._member.unused_data
        return unpacked

    def _next_member(self) -> bool:
        # Padding of zeros after the last member is allowed, as gzip itself does.
        self._pending = self._pending.lstrip(b"\0")
        if self._pending:
            self._member = _member()
        return bool(self._pending)

    def _broken(self, why: str) -> TransferFailed:
        return TransferFailed(f"{self._name} is not valid gzip data: {why}.", retryable=False)


def _member() -> igzip_lib.IgzipDecompressor:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
