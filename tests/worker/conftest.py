"""A scripted coordinator for every test that wants one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.s3_server import S3Server
from tests.worker.scripted import Coordinator, coordinating


@pytest.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    async with coordinating() as server:
        yield server


@pytest.fixture
async def original() -> AsyncIterator[Coordinator]:
    """The original server: no long poll, no attempts, none of our routes."""
    async with coordinating(is_legacy=True) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server
