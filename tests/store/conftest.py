"""A store on a real file, with a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.store.histories import World


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A new store that is open."""
    world = World(tmp_path / "kelpie.db")
    await world.open()
    yield world
    await world.close()
