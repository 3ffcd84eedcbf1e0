"""A real S3 server, buckets in it, and a proxy that breaks requests on demand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from kelpie.sync import S3, Rule, S3Bucket, Transfer
from tests.s3_server import S3Server
from tests.sync.fault_proxy import FaultProxy

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def aws(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Let botocore find the test server and nothing of this machine."""
    for name, value in s3_server.env().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    return s3_server


@pytest.fixture
async def s3(aws: S3Server) -> AsyncIterator[S3]:  # noqa: ARG001 - it sets the variables
    async with S3() as client:
        yield client


@pytest.fixture
def stored(aws: S3Server) -> Path:
    """Return the directory behind the test's bucket: what is in it is what the bucket holds."""
    return aws.create_bucket(f"bucket-{next(_numbers)}")


@pytest.fixture
def bucket(s3: S3, stored: Path) -> S3Bucket:
    return s3.bucket(stored.name)


@pytest.fixture
def transfer() -> Transfer:
    return Transfer(patience_s=20, retry_wait_s=0.01)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Return an empty directory for the job's files."""
    directory = tmp_path / "job"
    directory.mkdir()
    return directory


@pytest.fixture
def rule(bucket: S3Bucket, local: Path) -> Rule:
    return Rule(bucket, "run/", local)


@pytest.fixture
async def faulty(aws: S3Server) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(aws.url) as proxy:
        yield proxy


async def until(is_so: Callable[[], object], *, within_s: float = 20.0) -> None:
    """Wait until something is so; fail if it does not become so."""
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 - files and other processes set no event
            await asyncio.sleep(0.01)


def contents(root: Path) -> dict[str, bytes]:
    """Return every file below a directory with its content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
