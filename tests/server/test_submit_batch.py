"""POST /jobs/batch: all or none, in order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.api import GROUP, Api


def _definitions(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"command": str(number), "container_group_id": GROUP, **fields} for number in range(count)]


async def test_a_thousand_jobs_come_back_in_order(api: Api) -> None:
    """The largest batch is one transaction."""
    answer = await api.post("/jobs/batch", _definitions(1000))

    assert answer.status == 202
    assert [job["command"] for job in answer.body] == [str(number) for number in range(1000)]
    assert (await api.get("/jobs?page_size=1000&asc=true")).body["jobs"] == answer.body


@pytest.mark.parametrize(("count", "code"), [(0, "too_small"), (1001, "too_big")])
async def test_a_batch_has_one_to_a_thousand_jobs(api: Api, count: int, code: str) -> None:
    """Anything else is a bad request, not a large one."""
    answer = await api.post("/jobs/batch", _definitions(count))

    assert answer.status == 400
    assert (answer.body["errors"][0]["code"], answer.body["errors"][0]["path"]) == (code, ["body"])


async def test_an_empty_body_is_an_empty_batch(api: Api) -> None:
    """It is refused as such."""
    answer = await api.call("POST", "/jobs/batch")

    assert (answer.status, answer.body["errors"][0]["code"]) == (400, "too_small")


async def test_a_wrong_type_names_its_index(api: Api) -> None:
    """In the path of the field."""
    batch = _definitions(3)
    del batch[1]["command"]

    answer = await api.post("/jobs/batch", batch)

    assert answer.status == 400
    assert answer.body["errors"][0]["path"] == ["body", 1, "command"]


async def test_a_field_that_is_refused_by_meaning_names_its_index(api: Api) -> None:
    """As a wrong type does."""
    batch = [*_definitions(2), *_definitions(1, run_at="never")]

    answer = await api.post("/jobs/batch", batch)

    assert answer.body["errors"][0]["path"] == ["body", 2, "run_at"]


async def test_one_wrong_definition_refuses_all(api: Api) -> None:
    """And the answer says which one it was."""
    batch = [*_definitions(2), *_definitions(1, sync={}, input_bucket="b")]

    answer = await api.post("/jobs/batch", batch)

    assert answer.status == 400
    assert answer.body == {
        "error": "Invalid request", "message": "Cannot use both sync and bucket/prefix", "index": 2
    }  # fmt: skip
    assert (await api.get("/jobs")).body["_count"] == 0


async def test_a_batch_may_be_sent_again_with_its_key(api: Api) -> None:
    """The same jobs in the same order."""
    first = await api.post("/jobs/batch", _definitions(5), idempotency_key="b")
    again = await api.post("/jobs/batch", _definitions(5), idempotency_key="b")
    single = await api.post("/jobs", _definitions(1)[0], idempotency_key="b")

    assert again.body == first.body
    assert again.headers["idempotent-replayed"] == "true"
    assert single.status == 202


async def test_jobs_of_one_batch_may_go_to_many_groups(api: Api) -> None:
    """Each is claimed in its own."""
    batch = [{"command": "x", "container_group_id": f"g{number}"} for number in range(3)]
    submitted = (await api.post("/jobs/batch", batch)).body

    for number in range(3):
        claimed = await api.claim("m1", f"g{number}")
        assert claimed["id"] == submitted[number]["id"]


async def test_a_body_beyond_the_limit_is_refused(api: Api) -> None:
    """Before it is read, and when it comes in chunks without a length."""
    large = b" " * (65 << 20)

    async def chunks() -> Any:
        for _ in range(65):
            yield b" " * (1 << 20)

    known = await api.call("POST", "/jobs/batch", content=large)
    unknown = await api.call("POST", "/jobs/batch", content=chunks())

    assert [known.status, unknown.status] == [413, 413]
    assert known.body["error"] == unknown.body["error"] == "Content Too Large"
