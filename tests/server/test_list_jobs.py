"""GET /jobs: filters, pages, order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.api import GROUP, Api


async def _commands(api: Api, query: str = "") -> list[str]:
    answer = await api.get(f"/jobs{query}")
    assert answer.status == 200, answer
    assert answer.body["_count"] == len(answer.body["jobs"])
    return [job["command"] for job in answer.body["jobs"]]


async def _submit(api: Api, *commands: str, group: str = GROUP) -> None:
    for command in commands:
        await api.submit(group, command=command)


async def test_newest_come_first_unless_asked_otherwise(api: Api) -> None:
    """`asc` takes true and false in any case."""
    await _submit(api, "a", "b", "c")

    assert await _commands(api) == ["c", "b", "a"]
    assert await _commands(api, "?asc=false") == await _commands(api, "?asc=FALSE") == ["c", "b", "a"]
    assert await _commands(api, "/?asc=true") == await _commands(api, "?asc=TRUE") == ["a", "b", "c"]


async def test_pages_follow_each_other(api: Api) -> None:
    """Zero and below mean the first; beyond the last there is nothing."""
    await _submit(api, "a", "b", "c")

    assert await _commands(api, "?asc=true&page_size=2") == ["a", "b"]
    assert await _commands(api, "?asc=true&page_size=2&page=2") == ["c"]
    assert await _commands(api, "?asc=true&page_size=2&page=0") == ["a", "b"]
    assert await _commands(api, "?asc=true&page_size=2&page=-7") == ["a", "b"]
    assert await _commands(api, "?page=99") == []
    assert await _commands(api, f"?page={10**30}") == []


async def test_jobs_are_filtered_by_status_and_group(api: Api) -> None:
    """Both at once, too; unknown parameters are ignored."""
    await _submit(api, "a", "b")
    await _submit(api, "c", group="other")
    claimed = await api.claim("m1")

    assert await _commands(api, "?status=running") == [claimed["command"]]
    assert await _commands(api, "?status=pending&asc=true&nonsense=1") == ["b", "c"]
    assert await _commands(api, "?container_group_id=other") == ["c"]
    assert await _commands(api, f"?container_group_id={GROUP}&status=pending") == ["b"]
    assert await _commands(api, "?status=failed") == []
    assert await _commands(api, "?container_group_id=nowhere") == []


async def test_an_empty_list_has_the_same_shape(api: Api) -> None:
    """Count and jobs are always there."""
    body = (await api.get("/jobs")).body

    assert (body["_count"], body["jobs"]) == (0, [])
    assert list(body)[:2] == ["_count", "jobs"]


async def test_a_user_sees_own_jobs_and_an_admin_sees_all(api: Api, admin: Api, make_api: Any) -> None:
    """Also when the group is filtered by name."""
    other = await make_api()
    group = f"group-of-{api.user_id}"
    await _submit(api, "mine", group=group)
    await _submit(other, "theirs", group=group)

    assert await _commands(api, f"?container_group_id={group}") == ["mine"]
    assert await _commands(other) == ["theirs"]
    assert await _commands(admin, f"?container_group_id={group}") == ["theirs", "mine"]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("status=bogus", "status"), ("status=", "status"), ("page_size=0", "page_size"),
        ("page_size=1001", "page_size"), ("page_size=abc", "page_size"), ("page_size=1.5", "page_size"),
        ("page=abc", "page"), ("page=", "page"), ("asc=1", "asc"), ("asc=yes", "asc"), ("asc=", "asc"),
        ("container_group_id=", "container_group_id"),
    ],
)  # fmt: skip
async def test_a_bad_value_is_refused_by_name(api: Api, query: str, name: str) -> None:
    """With the path of the parameter."""
    answer = await api.get(f"/jobs?{query}")

    assert answer.status == 400
    assert answer.body["errors"][0]["path"] == ["query", name]
    assert answer.body["success"] is False
