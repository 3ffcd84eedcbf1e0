"""What an attempt needs of its worker, and what outlives the attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kelpie.client import Client
from kelpie.config import WorkerConfig
from kelpie.worker.notice import Notice
from kelpie.worker.state_file import StateFile

if TYPE_CHECKING:
    from kelpie.worker.cargo import Depot

Found = dict[Path, frozenset[str]]
"""What was in each directory before this worker first used it; that is not Kelpie's to remove."""


@dataclass(frozen=True)
class Machine:
    """Who speaks: the first two fields of every report."""

    machine_id: str
    container_group_id: str


@dataclass(kw_only=True)
class Home:
    """One worker: its settings, its line to the server, its notice, its files."""

    config: WorkerConfig
    client: Client
    machine: Machine
    notice: Notice
    state: StateFile
    found: Found = field(default_factory=dict)
    depot: Depot | None = None
    """The storage client, opened when a job first names a bucket; the worker closes it."""
