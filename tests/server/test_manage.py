"""Retry, change, bulk operations, purges, filters and dependencies over HTTP."""

from __future__ import annotations

from typing import Any

from tests.kelpie_server import ServerProcess
from tests.server.api import GROUP, Api


async def test_a_purge_removes_what_waits_and_cancels_what_runs(api: Api) -> None:
    """The count is of both; another group is left alone."""
    running = await api.submit()
    await api.claim("m1")
    waiting, other = await api.submit(), await api.submit("other")

    answer = await api.delete(f"/jobs/container-groups/{GROUP}")

    assert (answer.status, answer.body) == (200, {"count": 2})
    assert (await api.job(running["id"]))["status"] == "canceled"
    assert (await api.get(f"/jobs/{waiting['id']}")).status == 404
    assert (await api.job(other["id"]))["status"] == "pending"


async def test_all_jobs_and_all_users_are_the_admins_to_remove(fresh_server: ServerProcess) -> None:
    """A removed user's key is refused at once; the admin stays."""
    key = fresh_server.new_account().key
    async with Api(fresh_server.url, key) as user, Api(fresh_server.url, fresh_server.admin_key) as admin:
        await user.submit()
        assert [(await user.delete(path)).status for path in ("/jobs", "/users")] == [403, 403]
        assert (await admin.delete("/jobs")).status == 204
        assert (await user.get("/jobs")).body["_count"] == 0
        assert (await admin.delete("/users")).status == 204
        assert (await user.get("/jobs")).status == 403
        assert (await admin.get("/users/me")).status == 200


async def test_a_canceled_job_is_retried_once(api: Api) -> None:
    """A pending one is not."""
    job = await api.submit()
    await api.delete(f"/jobs/{job['id']}")

    answer = await api.post(f"/jobs/{job['id']}/retry")

    assert (answer.status, answer.body["status"], answer.body["retries"]) == (202, "pending", 1)
    assert (await api.post(f"/jobs/{job['id']}/retry")).status == 409


async def test_a_job_is_changed_until_it_has_ended(api: Api) -> None:
    """The holder learns its new time limit by its heartbeat; labels are found anew."""
    job = await api.submit(labels={"a": "1"})
    claimed = await api.claim("m1", version="1")
    path = f"/jobs/{job['id']}"

    changed = await api.call("PATCH", path, {"priority": 3, "timeout_s": 60, "labels": {"b": "2"}})
    beat = await api.report(job["id"], "heartbeat", "m1", attempt=claimed["attempt"])

    assert (changed.status, changed.body["priority"], changed.body["labels"]) == (200, 3, {"b": "2"})
    assert beat.body["timeout_s"] == 60
    assert (await api.get("/jobs?label=b=2")).body["_count"] == 1
    assert (await api.get("/jobs?label=a=1")).body["_count"] == 0
    assert (await api.call("PATCH", path, {})).status == 400
    await api.delete(path)
    assert (await api.call("PATCH", path, {"priority": 1})).status == 409


async def test_jobs_are_canceled_and_retried_by_filter(api: Api) -> None:
    """A dry run only lists them; an empty filter is refused."""
    ids = [(await api.submit(labels={"sweep": "1"}, name="n"))["id"] for _ in range(3)]
    other = await api.submit()

    dry = await api.post("/jobs/cancel", {"labels": {"sweep": "1"}, "dry_run": True})
    done = await api.post("/jobs/cancel", {"name": "n"})
    again = await api.post("/jobs/retry", {"ids": [ids[0], other["id"]]})

    assert dry.body == done.body == {"count": 3, "ids": ids, "more": False}
    assert again.body["ids"] == ids[:1]
    assert (await api.job(other["id"]))["status"] == "pending"
    assert (await api.post("/jobs/cancel", {})).status == 400


async def test_pages_follow_a_cursor(api: Api) -> None:
    """Until there is none."""
    ids = [(await api.submit())["id"] for _ in range(5)]
    seen: list[Any] = []
    query = "?asc=true&page_size=2"
    while True:
        body = (await api.get(f"/jobs{query}")).body
        seen += [job["id"] for job in body["jobs"]]
        if body["next_cursor"] is None:
            break
        query = f"?asc=true&page_size=2&cursor={body['next_cursor']}"

    assert seen == ids
    for bad in ("cursor=x", "label=x", "created_after=soon"):
        assert (await api.get(f"/jobs?{bad}")).status == 400


async def test_a_batch_names_its_own_members(api: Api) -> None:
    """By number; a circle, itself and a stranger are refused with their path."""

    async def batch(*after: list[str]) -> Any:
        return await api.post(
            "/jobs/batch", [{"command": "x", "container_group_id": GROUP, "after": names} for names in after]
        )

    made = await batch([], ["#0"])
    assert (made.status, made.body[1]["after"]) == (202, [made.body[0]["id"]])
    for wrong in (["#1"], ["#9"], ["unknown"]):
        refused = await batch([], wrong)
        assert (refused.status, refused.body["errors"][0]["path"][:3]) == (400, ["body", 1, "after"])
    assert (await batch(["#1"], ["#0"])).status == 400
