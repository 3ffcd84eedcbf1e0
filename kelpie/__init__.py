"""Kelpie shepherds long jobs to completion on machines that vanish."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kelpie.client import Client
    from kelpie.contract import Job, JobSpec, Sync, SyncRule
    from kelpie.errors import KelpieError

__version__ = "0.1.0"
__all__ = ["Client", "Job", "JobSpec", "KelpieError", "Sync", "SyncRule", "__version__"]

# Imported when asked for: the client brings an HTTP library that `kelpie --help` must not wait for.
_HOMES = {
    "Client": "kelpie.client",
    "Job": "kelpie.contract",
    "JobSpec": "kelpie.contract",
    "KelpieError": "kelpie.errors",
    "Sync": "kelpie.contract",
    "SyncRule": "kelpie.contract",
}


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kelpie' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
