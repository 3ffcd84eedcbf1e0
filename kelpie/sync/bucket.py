"""S3, and everything that speaks its protocol, by aiobotocore.

One method is one request. Retries, concurrency, memory and verification are
`transfer`'s; here every exception of the libraries becomes a TransferFailed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore import exceptions as boto
from botocore.handlers import add_expect_header
from botocore.parsers import ResponseParserError

from kelpie.errors import TransferFailed
from kelpie.sync.faults import NotVerified, ObjectChanged, not_reached, store_refused
from kelpie.sync.objects import Content, ObjectInfo, Piece

_PLAIN_MD5 = re.compile(r"[0-9a-f]{32}\Z")
# A peer that accepts a connection and then stalls must not hold a request for
# ever: aiohttp times reads, not writes. Slower than this is stalled.
_SLOWEST_BYTES_PER_S = 16 * 1024
_SLACK_S = 120.0
# aiohttp warns of longer byte strings: they would be handed to the socket at once.
_LONG_BODY_BYTES = 1 << 20
_CHUNK_BYTES = 256 << 10

_UNANSWERED = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    ResponseParserError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
)


class S3:
    """The process's one S3 client; enter it once and take buckets from it.

    Credentials, region and endpoint are found by botocore (AWS variables,
    profiles, web identity); `endpoint_url` and `credentials` (access key and
    secret) override what was found.
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None = None,
        credentials: tuple[str, str] | None = None,
        connections: int = 64,
        timeout_s: float = 60.0,
    ) -> None:
        self._credentials = credentials or (None, None)
        self._endpoint_url = endpoint_url
        self._connections = connections
        self._timeout_s = timeout_s
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        try:
            self._client = await self._open()
            # Parts are small; a round trip before each costs more than a refusal saves.
            self._client.meta.events.unregister("before-call.s3", add_expect_header)
        except (boto.BotoCoreError, ValueError) as error:
            await self._stack.aclose()
            raise TransferFailed(f"The AWS settings cannot be used: {error}", retryable=False) from error
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    def bucket(self, name: str) -> S3Bucket:
        """Return the bucket of that name; whether it exists is for `check` to say."""
        return S3Bucket(self._client, name)

    async def _open(self) -> Any:
        session = get_session()
        client = await self._stack.enter_async_context(self._create(session, None))
        style = (session.get_scoped_config().get("s3") or {}).get("addressing_style")
        if style is not None or _is_amazon(client.meta.endpoint_url):
            return client
        # botocore would ask for http://bucket.minio:9000, which nobody resolves.
        return await self._stack.enter_async_context(self._create(session, {"addressing_style": "path"}))

    def _create(self, session: Any, s3: dict[str, str] | None) -> Any:
        config = AioConfig(
            # Newer checksums break some S3 servers and cost 14 %; Content-MD5 is ours.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=self._connections,
            connect_timeout=min(10.0, self._timeout_s),
            read_timeout=self._timeout_s,
            # Our own retries know the lease and the patience; two layers would multiply.
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3=s3,
        )
        access_key, secret_key = self._credentials
        return session.create_client(
            "s3",
            endpoint_url=self._endpoint_url,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=config,
        )


def _is_amazon(endpoint_url: str) -> bool:
    host = urlsplit(endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


class S3Bucket:
    """A bucket of S3 or of anything that speaks its protocol."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._name

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Yield every object whose key begins with `prefix`, a page per request."""
        with self._translated("list", prefix):
            pages = self._client.get_paginator("list_objects_v2")
            async for page in pages.paginate(Bucket=self._name, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    yield _info(entry["Key"], entry, entry["Size"])

    async def head(self, key: str) -> ObjectInfo | None:
        """Describe one object; None if there is none (or no bucket: see `check`)."""
        with self._translated("look at", key):
            try:
                answer = await self._client.head_object(Bucket=self._name, Key=key)
            except boto.ClientError as error:
                if _status(error) == 404:  # noqa: PLR2004 - the one status that is an answer
                    return None
                raise
            return _info(key, answer, answer["ContentLength"])

    async def read(self, info: ObjectInfo, start: int, length: int) -> Piece:
        """Read a range of exactly the object `info` describes; ObjectChanged if it was replaced."""
        ranged = {} if length == info.size else {"Range": f"bytes={start}-{start + length - 1}"}
        with self._translated("download", info.key):
            async with asyncio.timeout(_request_s(length)):
                answer = await self._client.get_object(Bucket=self._name, Key=info.key, **ranged)
                async with answer["Body"] as body:
                    etag = _etag(answer)
                    # Not every store honours If-Match, so the answer is compared instead.
                    if (info.etag and etag != info.etag) or answer["ContentLength"] != length:
                        raise ObjectChanged(
                            f"{self._at(info.key)} changed while it was read.", retryable=True
                        )
                    data = await _fill(body, length)
        if data is None:
            raise NotVerified(f"{self._at(info.key)} arrived truncated.", retryable=True)
        return Piece(data, etag if _is_md5(answer, etag) else None)

    async def write(self, key: str, body: bytes, content: Content) -> bool:
        """Create or replace one object, whole or not at all; True if the store named the body's MD5."""
        md5 = await _md5(body)
        with self._translated("upload", key):
            async with asyncio.timeout(_request_s(len(body))):
                answer = await self._client.put_object(
                    Bucket=self._name,
                    Key=key,
                    Body=_stream(body),
                    ContentMD5=_header(md5),
                    **_headers(content),
                )
        return self._compare(key, answer, md5)

    async def start_parts(self, key: str, content: Content) -> str:
        """Begin a multipart upload and return its id."""
        with self._translated("upload", key):
            answer = await self._client.create_multipart_upload(
                Bucket=self._name, Key=key, **_headers(content)
            )
            return str(answer["UploadId"])

    async def write_part(self, key: str, upload_id: str, number: int, body: bytes) -> str:
        """Store one part (numbered from 1) and return its etag."""
        md5 = await _md5(body)
        with self._translated("upload", key):
            async with asyncio.timeout(_request_s(len(body))):
                answer = await self._client.upload_part(
                    Bucket=self._name,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=_stream(body),
                    ContentMD5=_header(md5),
                )
        self._compare(key, answer, md5)
        return str(answer["ETag"])

    async def finish_parts(self, key: str, upload_id: str, etags: Sequence[str]) -> None:
        """Turn the parts into the object; UploadGone if the store does not know the upload."""
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with self._translated("upload", key):
            await self._client.complete_multipart_upload(
                Bucket=self._name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )

    async def abort_parts(self, key: str, upload_id: str) -> None:
        """Throw the parts away."""
        with self._translated("abort the upload of", key):
            await self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload_id)

    async def delete(self, key: str) -> None:
        """Delete one object; none is no error."""
        with self._translated("delete", key):
            await self._client.delete_object(Bucket=self._name, Key=key)

    async def check(self) -> None:
        """Raise TransferFailed unless the bucket exists and may be used."""
        with self._translated("use", ""):
            # Not HeadBucket: it has no body to say why, and other rights.
            await self._client.list_objects_v2(Bucket=self._name, MaxKeys=1)

    def _at(self, key: str) -> str:
        return f"s3://{self._name}/{key}"

    def _compare(self, key: str, answer: dict[str, Any], md5: bytes) -> bool:
        etag = _etag(answer)
        if not _is_md5(answer, etag):
            return False
        if etag != md5.hex():
            raise NotVerified(f"{self._at(key)} was stored with other content than was sent.", retryable=True)
        return True

    @contextmanager
    def _translated(self, verb: str, key: str) -> Iterator[None]:
        doing = f"{verb} {self._at(key)}"
        try:
            yield
        except boto.ClientError as error:
            answer = error.response.get("Error", {})
            code = str(answer.get("Code") or _status(error))
            raise store_refused(doing, code, _status(error), str(answer.get("Message", ""))) from error
        except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
            raise TransferFailed(
                f"Could not {doing}: no AWS credentials found ({error}). Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or a profile or role that botocore knows.",
                retryable=False,
            ) from error
        except _UNANSWERED as error:
            raise self._unanswered(doing, error) from error
        except boto.BotoCoreError as error:
            raise TransferFailed(f"Could not {doing}: {error}", retryable=False) from error

    def _unanswered(self, doing: str, error: Exception) -> TransferFailed:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return TransferFailed(
                f"Could not {doing}: the store's certificate is not trusted: check AWS_CA_BUNDLE.",
                retryable=False,
            )
        return not_reached(doing, self._client.meta.endpoint_url, error)


def _status(error: boto.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _info(key: str, entry: dict[str, Any], size: int) -> ObjectInfo:
    return ObjectInfo(key=key, size=size, modified=entry["LastModified"].timestamp(), etag=_etag(entry))


def _etag(answer: dict[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')


def _is_md5(answer: dict[str, Any], etag: str) -> bool:
    # Under KMS or a customer's key the etag looks like an MD5 but is none.
    encrypted = "kms" in str(answer.get("ServerSideEncryption", "")) or "SSECustomerAlgorithm" in answer
    return not encrypted and _PLAIN_MD5.match(etag) is not None


async def _fill(body: Any, length: int) -> bytearray | None:
    # Reading it whole would hold it twice: in pieces and joined.
    data, filled = bytearray(length), 0
    while chunk := await body.read(_CHUNK_BYTES):
        if filled + len(chunk) > length:
            return None
        data[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return data if filled == length else None


def _stream(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) <= _LONG_BODY_BYTES else io.BytesIO(body)


def _request_s(length: int) -> float:
    return _SLACK_S + length / _SLOWEST_BYTES_PER_S


async def _md5(body: bytes) -> bytes:
    return await asyncio.to_thread(lambda: hashlib.md5(body, usedforsecurity=False).digest())


def _header(md5: bytes) -> str:
    return base64.b64encode(md5).decode()


def _headers(content: Content) -> dict[str, str]:
    encoding = {"ContentEncoding": content.encoding} if content.encoding else {}
    return {"ContentType": content.type, **encoding}
