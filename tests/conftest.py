"""Servers for tests: one shared by all that make their own users, and a fresh one on demand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kelpie_server import ServerProcess


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for tests that each make a user of their own and leave it running."""
    with ServerProcess(tmp_path_factory.mktemp("shared-server")) as server:
        yield server


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that one test has for itself, to fill, stop or kill."""
    with ServerProcess(tmp_path) as server:
        yield server
