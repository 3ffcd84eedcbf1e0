"""GET /jobs/{id}/explain: why my job is not done."""

from __future__ import annotations

from typing import Any

from tests.server.api import GROUP, Api


async def explained(api: Api, job_id: str) -> dict[str, Any]:
    """The reasons of a job by their kind."""
    answer = await api.get(f"/jobs/{job_id}/explain")
    assert answer.status == 200, answer
    assert answer.body["summary"] == "; ".join(one["message"] for one in answer.body["reasons"])
    return {one["kind"]: one for one in answer.body["reasons"]}


async def test_a_group_that_nobody_polls_is_the_reason(api: Api) -> None:
    """And the groups that are polled are named: a typo shows."""
    job = await api.submit()
    await api.claim("m1", "grop-1")

    reasons = await explained(api, job["id"])

    assert set(reasons) == {"no-worker", "queue"}
    (polled,) = reasons["no-worker"]["polled_groups"]
    assert (polled["container_group_id"], polled["machines"]) == ("grop-1", 1)
    assert "grop-1 (last" in reasons["no-worker"]["message"]


async def test_the_place_in_the_queue_follows_priority_then_submission(api: Api) -> None:
    """Jobs that cannot be claimed now do not count."""
    first, second = await api.submit(), await api.submit()
    urgent = await api.submit(priority=5)
    await api.submit(priority=9, run_at="2999-01-01T00:00:00Z")

    places = [(await explained(api, job["id"]))["queue"]["position"] for job in (urgent, first, second)]

    assert places == [1, 2, 3]


async def test_a_long_queue_is_not_counted_to_its_end(api: Api) -> None:
    """More than a thousand is enough to know."""
    batch = [{"command": "x", "container_group_id": GROUP}] * 1000
    await api.post("/jobs/batch", batch)
    last = await api.submit()

    queue = (await explained(api, last["id"]))["queue"]

    assert (queue["position"], queue["is_position_exact"]) == (1000, False)
    assert "more than 1000" in queue["message"]


async def test_an_hour_that_has_not_come_is_a_reason(api: Api) -> None:
    """With the hour."""
    job = await api.submit(run_at="2999-01-01T00:00:00Z")

    reasons = await explained(api, job["id"])

    assert reasons["run-at"]["until"] == "2999-01-01T00:00:00.000Z"
    assert "queue" not in reasons


async def test_a_retry_delay_and_a_ban_are_reasons(api: Api) -> None:
    """Until when, and for whom."""
    job = await api.submit(retry_delay_s=600)
    await api.claim("m1")
    await api.report(job["id"], "failed", "m1", attempt=1)

    reasons = await explained(api, job["id"])

    assert set(reasons) == {"retry-delay", "banned"}
    assert "failed 1 of 3 times" in reasons["retry-delay"]["message"]
    assert reasons["banned"]["machines"] == ["m1"]
    assert reasons["retry-delay"]["until"] > job["created"]
    assert reasons["banned"]["until"] > job["created"]


async def test_another_machine_that_polls_is_not_banned(api: Api) -> None:
    """So the ban is no reason."""
    job = await api.submit(retry_delay_s=600)
    await api.claim("m1")
    await api.report(job["id"], "failed", "m1", attempt=1)
    await api.claim("m2")

    assert set(await explained(api, job["id"])) == {"retry-delay"}


async def test_a_machine_that_gave_a_job_back_at_once_is_held_off(api: Api) -> None:
    """For a while."""
    job = await api.submit(retry_delay_s=600)
    await api.claim("m1")
    await api.report(job["id"], "interrupted", "m1", attempt=1)

    reasons = await explained(api, job["id"])

    assert set(reasons) == {"held-off", "queue"}
    assert reasons["held-off"]["machines"] == ["m1"]


async def test_a_running_job_names_its_holder_and_its_lease(api: Api) -> None:
    """And an ended one how it ended."""
    job = await api.submit()
    await api.claim("m1")
    running = (await explained(api, job["id"]))["running"]
    await api.delete(f"/jobs/{job['id']}")

    assert running["machines"] == ["m1"]
    assert "attempt 1 runs on m1, last heartbeat" in running["message"]
    assert running["until"] > job["created"]
    assert (await explained(api, job["id"]))["canceled"]["message"].startswith("canceled at")


async def test_another_users_job_is_not_explained(api: Api, make_api: Any, admin: Api) -> None:
    """It does not exist; an admin and a read key see it."""
    job = await api.submit()
    stranger, reader = await make_api(), await make_api(api.user_id, scope="read")
    path = f"/jobs/{job['id']}/explain"

    assert (await stranger.get(path)).body == (await stranger.get("/jobs/unknown/explain")).body
    assert (await stranger.get(path)).status == 404
    assert [(await one.get(path)).status for one in (reader, admin)] == [200, 200]


async def test_a_job_that_waits_for_others_names_them(api: Api) -> None:
    """And has no place in the queue before they are done."""
    needed = await api.submit()
    waiting = await api.submit(after=[needed["id"]])

    reasons = await explained(api, waiting["id"])

    assert f"waits for {needed['id']} (pending) to be completed" in reasons["dependency"]["message"]
    assert "queue" not in reasons
