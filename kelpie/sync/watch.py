"""Hints that something changed in a directory; the truth is a scan's to find."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import structlog
from watchfiles import Change, awatch

_REARM_S = 1.0

_log = structlog.get_logger()


async def hints(root: Path, *, recursive: bool) -> AsyncGenerator[set[str], None]:
    """Yield sets of relative paths that may have changed, for ever.

    Hints get lost (overflow, network file systems, a directory put in the
    place of another); where none can be had the scans alone must do.
    """
    warned = False
    while True:
        try:
            async with aclosing(_events(root, recursive=recursive)) as events:
                async for relatives in events:
                    yield relatives
        except (OSError, RuntimeError, ExceptionGroup) as error:
            if not warned:
                _log.warning("no_file_events", path=str(root), error=str(error))
            warned = True
        await asyncio.sleep(_REARM_S)


async def _events(root: Path, *, recursive: bool) -> AsyncGenerator[set[str], None]:
    # The kernel names what it saw, so links in the path must be followed first.
    real_root = await asyncio.to_thread(os.path.realpath, root)
    watcher = awatch(
        real_root,
        watch_filter=None,
        debounce=50,
        step=10,
        recursive=recursive,
        ignore_permission_denied=True,
    )
    async with aclosing(watcher):
        async for changes in watcher:
            yield {path.removeprefix(real_root + os.sep) for _, path in changes if path != real_root}
            if (Change.deleted, real_root) in changes:
                return
