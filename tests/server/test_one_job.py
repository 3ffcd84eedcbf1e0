"""GET and DELETE /jobs/{id}, its attempts and its events."""

from __future__ import annotations

from typing import Any

from tests.server.api import GROUP, Api

NOT_FOUND = {"error": "Not Found", "message": "Job not found"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


async def test_an_unknown_job_is_not_found(api: Api) -> None:
    """Whatever is asked of it."""
    for method, path in (("GET", ""), ("GET", "/"), ("DELETE", "")):
        answer = await api.call(method, f"/jobs/{UNKNOWN}{path}")
        assert (answer.status, answer.body) == (404, NOT_FOUND)
    for path in ("attempts", "events"):
        answer = await api.get(f"/jobs/{UNKNOWN}/{path}")
        assert answer.status == 404
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert answer.body == {
            "type": "not-found", "title": "Not Found", "status": 404, "detail": "Job not found"
        }  # fmt: skip


async def test_a_canceled_job_keeps_its_machine(api: Api) -> None:
    """And tells when; canceling again is harmless."""
    job = await api.submit()
    await api.claim("m1")

    answers = [await api.delete(f"/jobs/{job['id']}") for _ in range(2)]

    assert [(one.status, one.body) for one in answers] == [(202, {"message": "Job canceled"})] * 2
    canceled = await api.job(job["id"])
    assert (canceled["status"], canceled["machine_id"]) == ("canceled", "m1")
    assert canceled["canceled"] == canceled["heartbeat"]
    assert canceled["completed"] is canceled["failed"] is None


async def test_a_job_that_ended_otherwise_is_not_canceled(api: Api) -> None:
    """The answer says how it ended."""
    done = await api.submit()
    await api.claim("m1")
    await api.report(done["id"], "completed", "m1", attempt=1)
    failed = await api.submit(max_failures=1)
    await api.claim("m1")
    await api.report(failed["id"], "failed", "m1", attempt=1)

    for job, state in ((done, "completed"), (failed, "failed")):
        answer = await api.delete(f"/jobs/{job['id']}")
        assert (answer.status, answer.body) == (
            409, {"error": "Conflict", "message": f"Job already {state}"}
        )  # fmt: skip


async def test_an_admin_sees_and_cancels_anybodys_job(api: Api, admin: Api) -> None:
    """Which another user cannot."""
    job = await api.submit()

    assert await admin.job(job["id"]) == job
    assert (await admin.delete(f"/jobs/{job['id']}")).status == 202
    assert (await api.job(job["id"]))["status"] == "canceled"


async def test_every_attempt_is_kept(api: Api) -> None:
    """With its machine, its times, its outcome and what it said last."""
    job = await api.submit(retry_delay_s=0)
    await api.claim("m1", version="2")
    await api.report(job["id"], "heartbeat", "m1", attempt=1)
    await api.report(
        job["id"], "failed", "m1", attempt=1, exit_code=3, bytes_in=5, bytes_out=6, compute_s=1.5,
        log_tail="oh", detail="because",
    )  # fmt: skip
    await api.claim("m2")

    answer = await api.get(f"/jobs/{job['id']}/attempts")

    first, second = answer.body["attempts"]
    assert (first.pop("started") <= first.pop("ended")) is True
    assert first == {
        "attempt": 1, "machine_id": "m1", "outcome": "failed", "exit_code": 3, "signal": None,
        "reason": "exit", "detail": "because", "num_heartbeats": 1, "bytes_in": 5, "bytes_out": 6,
        "compute_s": 1.5, "version": "2", "log_tail": "oh",
    }  # fmt: skip
    assert (second["attempt"], second["outcome"], second["ended"]) == (2, None, None)


async def test_the_history_of_a_job_says_who_did_what(api: Api) -> None:
    """From the submission to the end."""
    job = await api.submit(retry_delay_s=0)
    await api.claim("m1")
    await api.report(job["id"], "interrupted", "m1", attempt=1, reason="notice")
    await api.claim("m2")
    await api.delete(f"/jobs/{job['id']}")

    events = (await api.get(f"/jobs/{job['id']}/events")).body["events"]

    assert [(one["kind"], one["from"], one["to"], one["attempt"]) for one in events] == [
        ("submitted", None, "pending", 0),
        ("claimed", "pending", "running", 1),
        ("interrupted", "running", "pending", 1),
        ("claimed", "pending", "running", 2),
        ("canceled", "running", "canceled", 2),
    ]
    assert [one["actor"].partition(":")[0] for one in events] == ["user", *["machine"] * 3, "user"]
    assert events[2]["reason"] == "notice"


async def test_a_read_key_sees_names_but_no_values_of_an_environment(api: Api, make_api: Any) -> None:
    """An environment carries secrets."""
    job = await api.submit(environment={"TOKEN": "secret", "B": ""})
    reader = await make_api(api.user_id, scope="read")

    one = await reader.job(job["id"])
    (listed,) = (await reader.get("/jobs")).body["jobs"]

    assert set(one["environment"]) == set(listed["environment"]) == {"TOKEN", "B"}
    assert "secret" not in str(one) + str(listed)
    assert {**one, "environment": None} == {**job, "environment": None}
    assert (await api.job(job["id"]))["environment"] == {"TOKEN": "secret", "B": ""}


async def test_others_get_a_group_of_the_same_name_for_themselves(api: Api, make_api: Any) -> None:
    """A queue belongs to its user."""
    other = await make_api()
    await api.submit()

    assert await other.claim("m1", GROUP) is None
    assert await api.claim("m1", GROUP) is not None
