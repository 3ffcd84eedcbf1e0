"""The application: routes, lifespan, errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from litestar import Litestar

from kelpie.config import ServerConfig
from kelpie.server import (
    answers,
    docs,
    events,
    explain,
    health,
    jobs,
    machines,
    openapi,
    users,
    webhooks,
    work,
)
from kelpie.server.auth import Gate
from kelpie.server.following import Feed
from kelpie.server.metrics import Metrics
from kelpie.server.services import Services
from kelpie.server.shell import Shell
from kelpie.server.upkeep import keep_up, watch_disk
from kelpie.server.waiting import Signals
from kelpie.store.access import bootstrap
from kelpie.store.claims import Policy
from kelpie.store.clock import Clock
from kelpie.store.store import Store, open_store
from kelpie.store.transaction import Wake

_MS = 1000
_MIB = 1 << 20


class Application:
    """The ASGI application and the parts the process around it needs."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        local_secret: str,
        on_fatal: Callable[[str], None],
        on_first_key: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._local_secret = local_secret
        self._on_fatal = on_fatal
        self._on_first_key = on_first_key
        self._clock = clock
        self.signals = Signals(limit=config.max_waiters)
        self.metrics = Metrics()
        self.feed = Feed(limit=config.max_waiters)
        self.store: Store | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self.litestar = Litestar(
            route_handlers=[
                jobs.router,
                explain.router,
                events.router,
                machines.router,
                work.router,
                users.router,
                webhooks.router,
                health.router,
                openapi.router,
                docs.router,
            ],
            openapi_config=openapi.openapi_config(),
            exception_handlers=answers.ALL,
            request_max_body_size=config.max_body_mib * _MIB,
            lifespan=[self._running],
            logging_config=None,
        )
        self.asgi = Shell(self.litestar, config)

    async def open(self) -> Store:
        """Open the database, so that a fault is known before the port is; raises StoreError."""
        policy = Policy(
            ban_window_ms=int(self._config.ban_window_s * _MS),
            timeout_margin_ms=int(self._config.timeout_margin_s * _MS),
        )
        self.store = await open_store(
            self._config.database,
            policy,
            on_commit=self._on_commit,
            on_fatal=self._on_fatal,
            clock=self._clock,
        )
        self.store.database.watch_batches(self.metrics.observe_batch)
        made = await bootstrap(self.store.database, self._config.admin_key)
        if made is not None:
            self._on_first_key(made)
        return self.store

    def _on_commit(self, wakes: list[Wake]) -> None:
        self.signals.fire(wakes)
        self.metrics.observe_wakes(wakes)
        self.feed.tell(wakes)

    async def close(self) -> None:
        """Stop upkeep, finish waiting writes and close the database; after the last answer."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            # Its end is awaited, its cancellation is ours.
            await asyncio.gather(self._upkeep, return_exceptions=True)
        if self.store is not None:
            await self.store.close()

    @contextlib.asynccontextmanager
    async def _running(self, app: Litestar) -> AsyncIterator[None]:
        store = self.store or await self.open()
        self.asgi.gate = Gate(store, self._local_secret)
        services = Services(self._config, store, self.signals, self.metrics, self.feed)
        app.state.services = services
        self.asgi.services = services
        app.state.disk_is_full = False
        await watch_disk(app, services)
        self._upkeep = asyncio.create_task(keep_up(app, services), name="upkeep")
        yield
