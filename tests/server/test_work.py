"""GET /work: claiming over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.server.api import GROUP, Api, work


async def test_there_may_be_nothing_to_do(api: Api) -> None:
    """The answer is an empty list, at once."""
    answer = await api.get(work("m1"))

    assert (answer.status, answer.body) == (200, [])


async def test_a_claim_hands_out_a_running_job(api: Api) -> None:
    """With the number of its attempt, its machine and its environment."""
    job = await api.submit(environment={"TOKEN": "secret"})

    claimed = await api.claim("m1")

    assert claimed == {
        **job, "status": "running", "machine_id": "m1", "attempt": 1,
        "started": claimed["started"], "heartbeat": claimed["started"],
    }  # fmt: skip
    assert list(claimed) == list(job)
    assert claimed["num_heartbeats"] == 0
    assert await api.job(job["id"]) == claimed


@pytest.mark.parametrize("count", [1, 7])
async def test_many_claims_at_once_share_the_jobs_without_overlap(api: Api, count: int) -> None:
    """Twenty machines ask; each job goes to exactly one of them."""
    jobs = [await api.submit() for _ in range(count)]

    claims = await asyncio.gather(*(api.claim(f"m{number}") for number in range(20)))

    got = [claimed["id"] for claimed in claims if claimed]
    assert sorted(got) == sorted(job["id"] for job in jobs)


async def test_a_claim_id_makes_a_claim_safe_to_repeat(api: Api, make_api: Any) -> None:
    """The same key and machine get the same job, nobody else does."""
    first, second = await api.submit(), await api.submit()
    colleague = await make_api(api.user_id, scope="worker")

    claims = [await api.claim("m1", claim_id="c") for _ in range(2)]
    others = [await colleague.claim("m1", claim_id="c"), await api.claim("m2", claim_id="c")]

    assert [claimed["id"] for claimed in claims] == [first["id"]] * 2
    assert [claimed["attempt"] for claimed in claims] == [1, 1]
    assert others[0]["id"] == second["id"]
    assert others[1] is None


async def test_a_job_is_claimable_again_two_seconds_after_its_claim(api: Api) -> None:
    """With a heartbeat interval of one second, and not before."""
    job = await api.submit(heartbeat_interval=1)
    await api.claim("m1")
    loop = asyncio.get_running_loop()
    began = loop.time()

    again = await api.claim("m2", wait=10)

    assert again["id"] == job["id"]
    assert again["attempt"] == 2
    assert loop.time() - began > 1.8


@pytest.mark.parametrize(
    ("query", "name", "message"),
    [
        ("container_group_id=g", "machine_id", "Required"),
        ("machine_id=m", "container_group_id", "Required"),
        ("machine_id=&container_group_id=g", "machine_id", "length >= 1"),
        ("machine_id=m&container_group_id=", "container_group_id", "length >= 1"),
        ("machine_id=m&container_group_id=g&wait=61", "wait", "<= 60"),
        ("machine_id=m&container_group_id=g&wait=-1", "wait", ">= 0"),
        ("machine_id=m&container_group_id=g&wait=soon", "wait", "float"),
        ("machine_id=m&container_group_id=g&wait=nan", "wait", "Expected"),
        ("machine_id=m&container_group_id=g&wait=inf", "wait", "<= 60"),
        ("machine_id=m&container_group_id=g&claim_id=", "claim_id", "length >= 1"),
        (f"machine_id={'m' * 4097}&container_group_id=g", "machine_id", "length <= 4096"),
    ],
)
async def test_a_bad_question_is_refused_by_name(api: Api, query: str, name: str, message: str) -> None:
    """With the path of the parameter."""
    answer = await api.get(f"/work?{query}")

    assert answer.status == 400
    (issue,) = answer.body["errors"]
    assert issue["path"] == ["query", name]
    assert message in issue["message"]


async def test_ids_are_opaque(api: Api) -> None:
    """Whatever characters they have comes back as it was."""
    machine, group = "m/ü%&=\n\t\u0007 ☃", "g?#/../ü"
    job = await api.submit(group)

    claimed = await api.claim(machine, group, claim_id="c/ü", version="ü")

    assert (claimed["id"], claimed["machine_id"]) == (job["id"], machine)
    assert claimed["container_group_id"] == group
    assert (await api.report(job["id"], "completed", machine, attempt=1)).status == 200


async def test_a_key_bound_to_a_group_claims_there_only(api: Api, make_api: Any) -> None:
    """Elsewhere it is told why not."""
    await api.submit("other")
    job = await api.submit(GROUP)
    bound = await make_api(api.user_id, scope="worker", container_group_id=GROUP)

    refused = await bound.get(work("m1", "other"))

    assert refused.status == 403
    assert refused.body == {
        "error": "Forbidden", "message": f"This key is bound to the container group {GROUP}."
    }  # fmt: skip
    assert (await bound.claim("m1", GROUP))["id"] == job["id"]
