"""Real processes for every promise: a server, an S3 server, and a stage for machines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.stage import BUCKET, Stage, open_stage
from tests.kelpie_server import ServerProcess
from tests.s3_server import S3Server


@pytest.fixture(scope="session")
def storage() -> Iterator[S3Server]:
    """An S3 server with one bucket, of which each test has a corner."""
    with S3Server() as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture
async def stage(shared_server: ServerProcess, storage: S3Server, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage on the server that tests share: a user of its own keeps them apart."""
    async with open_stage(shared_server, storage, tmp_path / "stage") as opened:
        yield opened


@pytest.fixture
async def own_stage(fresh_server: ServerProcess, storage: S3Server, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage on a server that the test may kill."""
    async with open_stage(fresh_server, storage, tmp_path / "stage") as opened:
        yield opened
