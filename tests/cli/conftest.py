"""A scripted server on a real port, and the command set up for it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from tests.cli.scripted import KEY, Coordinator, Kelpie


@pytest_asyncio.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    """A scripted server that listens on a port of its own."""
    coordinator = Coordinator()
    runner = web.AppRunner(coordinator.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    coordinator.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield coordinator
    await runner.cleanup()


@pytest.fixture
def kelpie(coordinator: Coordinator, tmp_path: Path) -> Kelpie:
    """The command, set up for the scripted server."""
    return Kelpie(tmp_path, {"KELPIE_API_URL": coordinator.url, "KELPIE_API_KEY": KEY})


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let processes started here be interrupted, even when this one was started with SIGINT ignored."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
