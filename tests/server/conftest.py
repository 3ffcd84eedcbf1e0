"""Callers of the shared server: each test gets users of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest_asyncio

from tests.kelpie_server import ServerProcess
from tests.server.api import Api

MakeApi = Callable[..., Awaitable[Api]]


@pytest_asyncio.fixture
async def make_api(shared_server: ServerProcess) -> AsyncIterator[MakeApi]:
    """Make callers: of a new user, or with another key of a user that is there."""
    async with AsyncExitStack() as stack:

        async def make(user_id: str = "", **key: object) -> Api:
            owner = user_id or shared_server.new_account().user_id
            token = shared_server.new_key(owner, **key)
            return await stack.enter_async_context(Api(shared_server.url, token, user_id=owner))

        yield make


@pytest_asyncio.fixture
async def api(make_api: MakeApi) -> Api:
    """A caller with the `user` key of a new user."""
    return await make_api()


@pytest_asyncio.fixture
async def admin(shared_server: ServerProcess) -> AsyncIterator[Api]:
    """A caller with the admin's key."""
    async with Api(shared_server.url, shared_server.admin_key) as caller:
        yield caller


@pytest_asyncio.fixture
async def nobody(shared_server: ServerProcess) -> AsyncIterator[Api]:
    """A caller without a key."""
    async with Api(shared_server.url) as caller:
        yield caller
