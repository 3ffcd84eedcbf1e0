"""What is counted for Prometheus: counters along the way, gauges read when asked.

Labels are states, groups of a bounded number, route templates and statuses:
never a job, a machine, a key or an address.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kelpie.lifecycle import JobStatus
from kelpie.store import groups
from kelpie.store.store import Store
from kelpie.store.tally import Counted
from kelpie.store.transaction import LOST_KEY, Wake

_MOST_GROUPS = 1000
_MS = 1000
_UNMATCHED = "(none)"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Everything that is counted, in a registry of this server's own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.claim_seconds = Histogram(
            "kelpie_claim_seconds", "From asking the store to a job, its commit included",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._commit_seconds = Histogram(
            "kelpie_commit_seconds",
            "How long a commit waited for the disk",
            buckets=_SECONDS,
            registry=registry,
        )
        self._batch_size = Histogram(
            "kelpie_batch_operations", "Operations that shared one commit", buckets=_SIZES, registry=registry
        )
        self.heartbeats = Counter("kelpie_heartbeats", "Heartbeats that were accepted", registry=registry)
        self._lost = Counter("kelpie_leases_lost", "Leases that ran out", registry=registry)
        self._requests = Counter(
            "kelpie_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._by_route: dict[tuple[str, str, int], Counter] = {}
        self._waiters = Gauge("kelpie_waiters", "Requests that wait for something", registry=registry)
        self._wal = Gauge("kelpie_wal_bytes", "Size of the write-ahead log", registry=registry)
        self._jobs = Gauge("kelpie_jobs", "Jobs by state", ["user", "group", "status"], registry=registry)
        self._oldest = Gauge(
            "kelpie_oldest_pending_seconds",
            "Age of the oldest pending job",
            ["user", "group"],
            registry=registry,
        )

    def observe_batch(self, operations: int, seconds: float) -> None:
        """Count one commit."""
        self._batch_size.observe(operations)
        self._commit_seconds.observe(seconds)

    def observe_wakes(self, wakes: Iterable[Wake]) -> None:
        """Count what a commit made known."""
        for wake in wakes:
            if wake.key == LOST_KEY:
                self._lost.inc(wake.count)

    def observe_request(self, scope: Any, status: int) -> None:
        """Count one answer by the template of its route."""
        key = (scope["method"], _route(scope), status)
        counter = self._by_route.get(key)
        if counter is None:
            # Looking a child up by its labels takes a lock and costs as much as counting.
            counter = self._by_route[key] = self._requests.labels(*key)
        counter.inc()

    async def render(self, store: Store, *, waiters: int) -> bytes:
        """Read the gauges and write everything down."""
        self._waiters.set(waiters)
        self._wal.set(_size(store.database.path))
        counts = await store.tally.rows()
        self._show(counts, await groups.names(store.database, most=_MOST_GROUPS), store.now_ms())
        return generate_latest(self._registry)

    def _show(self, counts: list[Counted], names: dict[int, tuple[str, str]], now: int) -> None:
        self._jobs.clear()
        self._oldest.clear()
        for one in counts:
            # Beyond the bound groups are added up: a label for each would drown the one who scrapes.
            user, group = names.get(one.group_seq, ("", "(other)"))
            self._jobs.labels(user, group, one.status).inc(one.count)
            if one.status == JobStatus.PENDING:
                self._oldest.labels(user, group).set(max(now - one.oldest, 0) / _MS)


def _route(scope: Any) -> str:
    template = scope.get("path_template")
    if template:
        return str(template)
    parts = scope["path"].split("/")
    if scope["path"] == "/work":
        return "/work"
    if len(parts) == 4 and parts[1] == "jobs" and parts[3] in {"heartbeat", "completed"}:  # noqa: PLR2004
        return f"/jobs/{{job_id}}/{parts[3]}"
    return _UNMATCHED


def _size(database: Path) -> int:
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size
    except OSError:
        return 0
