"""GET /jobs at a million jobs: whatever is asked, an index finds it."""

from __future__ import annotations

from typing import Any

import pytest

from kelpie.lifecycle import JobStatus
from kelpie.store.selection import Selection, selected
from tests.store.histories import World

FILTERS: dict[str, dict[str, Any]] = {
    "everything": {},
    "status": {"statuses": (JobStatus.FAILED,)},
    "group": {"container_group_id": "g"},
    "group and status": {"container_group_id": "g", "statuses": (JobStatus.PENDING,)},
    "name": {"name": "n"},
    "label": {"labels": (("k", "v"),)},
    "labels and name": {"labels": (("k", "v"), ("l", "w")), "name": "n"},
    "all": {"labels": (("k", "v"),), "container_group_id": "g", "statuses": (JobStatus.FAILED,)},
    "ids": {"ids": ("a", "b")},
}
BOUNDS: dict[str, dict[str, Any]] = {
    "from the start": {},
    "between times": {"created_after": 1, "created_before": 9},
    "from a cursor": {"cursor": (5, 5), "is_ascending": True},
}


@pytest.mark.parametrize("who", ["user", "admin"])
@pytest.mark.parametrize("bounds", BOUNDS.values(), ids=BOUNDS.keys())
@pytest.mark.parametrize("asked", FILTERS.values(), ids=FILTERS.keys())
async def test_no_filter_scans_the_jobs(
    world: World, asked: dict[str, Any], bounds: dict[str, Any], who: str
) -> None:
    """Tables that grow with the jobs are searched, never scanned."""
    sql, values = selected(world.caller(who), Selection(**asked, **bounds))
    plan = [row[3] for row in await world.store.database.all(f"EXPLAIN QUERY PLAN {sql}", values)]

    assert plan
    assert not [line for line in plan if line.startswith(("SCAN job", "SCAN one", "SCAN label", "SCAN also"))]
