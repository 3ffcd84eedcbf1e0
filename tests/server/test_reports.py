"""Heartbeat, completed, failed and interrupted over HTTP: statuses and exact bodies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.api import GROUP, Api

REPORTS = ("heartbeat", "completed", "failed", "interrupted")
NEW = {"interrupted"}


async def _running(api: Api, **fields: Any) -> str:
    job = await api.submit(**fields)
    await api.claim("m1")
    return str(job["id"])


@pytest.mark.parametrize("attempt", [{}, {"attempt": 1}], ids=["legacy", "modern"])
@pytest.mark.parametrize(
    ("report", "status", "body"),
    [
        ("heartbeat", 200, {"status": "running"}),
        ("completed", 200, {"message": "Completed reported"}),
        ("failed", 202, {"message": "Failure reported"}),
        ("interrupted", 202, {"message": "Interruption reported"}),
    ],
)
async def test_a_report_of_the_holder_is_acknowledged(
    api: Api, report: str, status: int, body: dict[str, str], attempt: dict[str, int]
) -> None:
    """In the words of the original, where it has them."""
    job_id = await _running(api)

    answer = await api.report(job_id, report, "m1", **attempt)

    assert (answer.status, answer.body) == (status, body)


NOT_APPLIED = "but not applied: this machine does not hold the job"
IGNORED = {
    "heartbeat": (200, {"status": "canceled"}),
    "completed": (200, {"message": f"Completed reported, {NOT_APPLIED}"}),
    "failed": (202, {"message": f"Failure reported, {NOT_APPLIED}"}),
    "interrupted": (202, {"message": f"Interruption reported, {NOT_APPLIED}"}),
}


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("job", ["another machine's", "unknown", "another user's"])
async def test_a_legacy_report_is_never_refused(api: Api, make_api: Any, report: str, job: str) -> None:
    """Its worker would try three times and then crash."""
    job_id = await _running(api) if job == "another machine's" else "no-such-job"
    if job == "another user's":
        job_id = await _running(await make_api())

    answer = await api.report(job_id, report, "m2")

    assert (answer.status, answer.body) == IGNORED[report]


@pytest.mark.parametrize("report", REPORTS)
async def test_a_report_with_an_attempt_that_is_not_live_is_refused(api: Api, report: str) -> None:
    """With the type that tells a worker to stop, and the job's status."""
    job_id = await _running(api)
    await api.delete(f"/jobs/{job_id}")

    answer = await api.report(job_id, report, "m1", attempt=1)

    assert answer.status == 409
    assert (answer.body["type"], answer.body["job_status"]) == ("lease-lost", "canceled")
    assert ("title" in answer.body) is (report in NEW)
    assert ("error" in answer.body) is (report not in NEW)


@pytest.mark.parametrize("report", REPORTS)
async def test_a_report_with_an_attempt_on_an_unknown_job_is_not_found(
    api: Api, make_api: Any, report: str
) -> None:
    """And another user's job is as unknown as none at all."""
    theirs = await _running(await make_api())

    answers = [await api.report(job_id, report, "m1", attempt=1) for job_id in ("no-such-job", theirs)]

    assert [one.status for one in answers] == [404, 404]
    assert answers[0].body == answers[1].body


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"container_group_id": GROUP}, "machine_id"),
        ({"machine_id": "m1"}, "container_group_id"),
        ({"machine_id": 1, "container_group_id": GROUP}, "machine_id"),
        ({"machine_id": "", "container_group_id": GROUP}, "machine_id"),
        ({"machine_id": "m1", "container_group_id": GROUP, "attempt": 0}, "attempt"),
        ({"machine_id": "m1", "container_group_id": GROUP, "attempt": "1"}, "attempt"),
    ],
)
async def test_a_wrong_report_is_refused_by_name(
    api: Api, report: str, body: dict[str, Any], name: str
) -> None:
    """Before anything changes."""
    job_id = await _running(api)

    answer = await api.post(f"/jobs/{job_id}/{report}", body)

    assert answer.status == 400
    assert answer.body["errors"][0]["path"] == ["body", name]
    assert (await api.job(job_id))["status"] == "running"


async def test_a_heartbeat_counts_and_carries_progress_and_checkpoint(api: Api) -> None:
    """The job shows the newest of each."""
    job_id = await _running(api, timeout_s=60)
    progress = {"progress": 0.5, "step": 3, "total": 6, "message": "half"}
    checkpoint = {"stored": "2026-01-01T00:00:00.000Z", "files": 2, "bytes": 10}

    answer = await api.report(job_id, "heartbeat", "m1", attempt=1, progress=progress, checkpoint=checkpoint)
    await api.report(job_id, "heartbeat", "m1", attempt=1)

    job = await api.job(job_id)
    assert answer.body == {"status": "running", "timeout_s": 60.0}
    assert (job["progress"], job["last_checkpoint"]) == (progress, checkpoint)
    assert job["num_heartbeats"] == 2


async def test_a_completed_job_shows_when_and_by_whom(api: Api) -> None:
    """And what was said with the last report."""
    job_id = await _running(api)

    await api.report(job_id, "completed", "m1", attempt=1, progress={"progress": 1.0})

    job = await api.job(job_id)
    assert (job["status"], job["machine_id"], job["num_failures"]) == ("completed", "m1", 0)
    assert job["completed"] == job["heartbeat"]
    assert job["progress"] == {"progress": 1.0}
    assert job["failed"] is job["canceled"] is job["reason"] is None


async def test_a_job_that_failed_for_good_says_why(api: Api) -> None:
    """At its last failure."""
    job_id = await _running(api, max_failures=1)

    await api.report(job_id, "failed", "m1", attempt=1, signal="SIGSEGV")

    job = await api.job(job_id)
    assert (job["status"], job["num_failures"], job["reason"]) == ("failed", 1, "signal")
    assert job["failed"] is not None


async def test_three_failures_reported_at_once_count_as_one(api: Api) -> None:
    """They are one attempt's."""
    import asyncio

    job_id = await _running(api, max_failures=3)

    answers = await asyncio.gather(*(api.report(job_id, "failed", "m1", attempt=1) for _ in range(3)))

    assert [one.status for one in answers] == [202] * 3
    assert (await api.job(job_id))["num_failures"] == 1


async def test_a_job_that_was_given_back_is_pending_at_once(api: Api) -> None:
    """Nothing is counted as a failure."""
    job_id = await _running(api)

    await api.report(job_id, "interrupted", "m1", attempt=1, reason="notice")

    job = await api.job(job_id)
    assert (job["status"], job["num_failures"], job["num_interruptions"]) == ("pending", 0, 1)
    assert (await api.claim("m2"))["attempt"] == 2


async def test_the_group_in_a_report_is_not_compared(api: Api) -> None:
    """As in the original: the machine and the attempt decide."""
    job_id = await _running(api)

    answer = await api.report(job_id, "heartbeat", "m1", attempt=1, container_group_id="another")

    assert answer.body == {"status": "running"}


async def test_a_confused_worker_does_not_fill_the_history(api: Api) -> None:
    """The same report that does not apply is recorded once."""
    job = (await api.post("/jobs", {"command": "true", "container_group_id": "g"})).body
    await api.get("/work?machine_id=m&container_group_id=g&version=1")
    for _ in range(3):
        await api.post(f"/jobs/{job['id']}/completed", {"machine_id": "x", "container_group_id": "g"})

    events = (await api.get(f"/jobs/{job['id']}/events")).body["events"]

    assert [event["kind"] for event in events] == ["submitted", "claimed", "ignored-report"]
