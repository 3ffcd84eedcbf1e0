"""Background loops: each a public one-step function and a small loop around it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import structlog
from litestar import Litestar

from kelpie.errors import KelpieError
from kelpie.server.courier import deliver
from kelpie.server.services import Services
from kelpie.store.outbox import prune
from kelpie.store.sweep import forget_idempotency_keys, sweep_once

log = structlog.get_logger()
SWEEP_EVERY_S = 0.25
"""Leases that ran out are noticed within a second; a pause of two means the server was away."""
_DISK_EVERY_S = 5.0
_HOUSEKEEPING_EVERY_S = 600.0
_MIB = 1 << 20


async def keep_up(app: Litestar, services: Services) -> None:
    """Run every loop until canceled."""
    database = services.store.database
    async with asyncio.TaskGroup() as group:
        group.create_task(_loop(SWEEP_EVERY_S, lambda: sweep_once(database)), name="sweep")
        group.create_task(_loop(_DISK_EVERY_S, lambda: watch_disk(app, services)), name="disk")
        group.create_task(
            _loop(_HOUSEKEEPING_EVERY_S, lambda: forget_idempotency_keys(database)), name="housekeeping"
        )
        group.create_task(_loop(_HOUSEKEEPING_EVERY_S, lambda: prune(database)), name="prune-deliveries")
        group.create_task(deliver(services), name="webhooks")


async def watch_disk(app: Litestar, services: Services) -> None:
    """Note whether the disk is so full that submissions must be refused."""
    stat = await asyncio.to_thread(os.statvfs, services.store.database.path.parent)
    free = stat.f_bavail * stat.f_frsize
    app.state.disk_is_full = free < services.config.min_free_disk_mib * _MIB


async def _loop(every_s: float, step: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await step()
        except Exception as error:
            # A defect shows its trace; an error raised on purpose says all there is to say.
            trace = None if isinstance(error, KelpieError) else error
            log.warning("upkeep_step_failed", error=str(error), exc_info=trace)
        await asyncio.sleep(every_s)
