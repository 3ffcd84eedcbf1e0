"""POST /jobs: what is taken, what is filled in, and what is refused with a reason."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.server.api import GROUP, Api

KEYS = [
    "id", "user_id", "status", "created", "started", "completed", "canceled", "failed", "heartbeat",
    "num_failures", "machine_id", "command", "arguments", "environment", "max_failures",
    "heartbeat_interval", "container_group_id", "webhook", "compression", "num_heartbeats", "sync",
    "name", "priority", "run_at", "after", "labels", "timeout_s", "max_interruptions", "retry_delay_s",
    "retry_delay_max_s", "upload_patience_s", "retry_rules", "webhook_events", "stop_signal",
    "stop_grace_s", "attempt", "num_interruptions", "retries", "progress", "last_checkpoint", "reason",
]  # fmt: skip
LEGACY = [
    "input_bucket", "input_prefix", "checkpoint_bucket", "checkpoint_prefix", "output_bucket",
    "output_prefix",
]  # fmt: skip
RULE = {"bucket": "b", "prefix": "p", "local_path": "data", "direction": "download"}


def _definition(**fields: Any) -> dict[str, Any]:
    return {"command": "python", "container_group_id": GROUP, **fields}


async def test_a_job_needs_only_a_command_and_a_group(api: Api) -> None:
    """Everything else has a default that the answer shows."""
    answer = await api.post("/jobs", _definition())

    job = answer.body
    assert answer.status == 202
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", job.pop("id"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", job.pop("created"))
    assert job == {
        "user_id": api.user_id, "status": "pending", "started": None, "completed": None, "canceled": None,
        "failed": None, "heartbeat": None, "num_failures": 0, "machine_id": None, "command": "python",
        "arguments": [], "environment": {}, "max_failures": 3, "heartbeat_interval": 30,
        "container_group_id": GROUP, "webhook": None, "compression": False, "num_heartbeats": 0,
        "sync": None, "name": None, "priority": 0, "run_at": None, "after": [], "labels": {},
        "timeout_s": None,
        "max_interruptions": 20, "retry_delay_s": 5.0, "retry_delay_max_s": 300.0,
        "upload_patience_s": 3600.0, "retry_rules": [],
        "webhook_events": ["running", "completed", "failed"], "stop_signal": None, "stop_grace_s": 30.0,
        "attempt": 0, "num_interruptions": 0, "retries": 0, "progress": None, "last_checkpoint": None,
        "reason": None,
    }  # fmt: skip


async def test_the_fields_of_a_job_come_in_the_order_of_the_contract(api: Api) -> None:
    """Clients of the original compare bytes in places."""
    legacy = dict.fromkeys(LEGACY, "x")

    plain, stored = await api.submit(), await api.submit(**legacy)

    assert list(plain) == KEYS
    after = KEYS.index("environment") + 1
    assert list(stored) == [*KEYS[:after], *LEGACY, *KEYS[after:]]


async def test_everything_submitted_is_shown_again(api: Api) -> None:
    """On submission and on every later look."""
    sync = {
        "before": [{**RULE, "prefix": "in/", "pattern": "a+"}],
        "during": [{**RULE, "prefix": "mid/", "direction": "upload"}],
        "after": [{**RULE, "prefix": "out.bin", "direction": "upload", "kind": "file"}],
    }
    given = {
        "arguments": ["-c", "print('ü')"], "environment": {"A": "1", "EMPTY": ""}, "max_failures": 1,
        "heartbeat_interval": 1, "webhook": "not even a url", "compression": True, "sync": sync,
        "name": "train", "priority": -5, "run_at": "2033-01-31T08:00:00.000Z", "labels": {"team": "a"},
        "timeout_s": 12.5, "max_interruptions": 0, "retry_delay_s": 0.0, "retry_delay_max_s": 1.0,
        "upload_patience_s": 2.0, "stop_signal": "SIGINT", "stop_grace_s": 3.0,
        "retry_rules": [{"exit_codes": [137], "action": "retry"}], "webhook_events": ["canceled"],
    }  # fmt: skip

    job = await api.submit(**given)

    assert {name: job[name] for name in given} == given
    assert await api.job(job["id"]) == job


async def test_optional_fields_may_be_null(api: Api) -> None:
    """Null means the default."""
    made_by_server = {*KEYS[:11], "num_heartbeats", *KEYS[KEYS.index("attempt") :]}
    required = {"command", "container_group_id"}
    optional = [name for name in KEYS if name not in made_by_server | required]

    job = await api.submit(**dict.fromkeys([*optional, *LEGACY]))

    assert (job["max_failures"], job["heartbeat_interval"], job["priority"]) == (3, 30, 0)
    assert not set(LEGACY) & set(job)


async def test_unknown_fields_and_the_content_type_are_ignored(api: Api) -> None:
    """A submission cannot set its own status, and many clients send no content type."""
    body = json.dumps(_definition(id="mine", status="completed", user_id="x", nonsense=[1])).encode()

    answer = await api.call("POST", "/jobs/", content=body, content_type="text/plain")

    assert answer.status == 202
    assert answer.body["status"] == "pending"
    assert answer.body["id"] != "mine"


async def test_prefixes_get_a_slash_unless_they_are_empty_or_a_file(api: Api) -> None:
    """A directory's prefix ends in one, wherever it was written."""
    rules = [{**RULE, "prefix": prefix} for prefix in ("a", "a/", "")] + [
        {**RULE, "prefix": "f", "kind": "file"}
    ]

    job = await api.submit(sync={"before": rules})
    legacy = await api.submit(input_bucket="b", input_prefix="in", output_bucket="", output_prefix=None)

    assert [rule["prefix"] for rule in job["sync"]["before"]] == ["a/", "a/", "", "f"]
    assert {name: legacy[name] for name in LEGACY if name in legacy} == {
        "input_bucket": "b", "input_prefix": "in/"
    }  # fmt: skip


async def test_sync_and_empty_legacy_fields_go_together(api: Api) -> None:
    """An empty string counts as absent."""
    job = await api.submit(sync={}, **dict.fromkeys(LEGACY, ""))

    assert job["sync"] == {}
    assert not set(LEGACY) & set(job)


async def test_a_start_time_is_shown_in_utc(api: Api) -> None:
    """Whatever zone it was given in."""
    job = await api.submit(run_at="2033-01-31T10:00:00+02:00")

    assert job["run_at"] == "2033-01-31T08:00:00.000Z"
    assert (await api.job(job["id"]))["run_at"] == "2033-01-31T08:00:00.000Z"


def _sync(**rule: Any) -> dict[str, Any]:
    return {"sync": {"before": [{**RULE, **rule}]}}


@pytest.mark.parametrize(
    ("fields", "path", "message"),
    [
        ({"command": None}, ["command"], "Expected str, got null"),
        ({"command": 1}, ["command"], "Expected str, got int"),
        ({"command": "a\0b"}, ["command"], "Expected text without NUL characters"),
        ({"container_group_id": ""}, ["container_group_id"], "Expected str of length >= 1"),
        ({"arguments": ["x", 2]}, ["arguments", 1], "Expected str, got int"),
        ({"arguments": ["x", "\0"]}, ["arguments", 1], "Expected text without NUL characters"),
        ({"environment": {"A": 1}}, ["environment"], "Expected str, got int"),
        ({"environment": {"A=B": "1"}}, ["environment", "A=B"], "Expected a variable name without `=`"),
        ({"max_failures": 0}, ["max_failures"], "Expected int >= 1"),
        ({"max_failures": 1.5}, ["max_failures"], "Expected int | null, got float"),
        ({"heartbeat_interval": 0}, ["heartbeat_interval"], "Expected int >= 1"),
        ({"heartbeat_interval": 10**30}, ["heartbeat_interval"], "Expected"),
        ({"compression": "yes"}, ["compression"], "Expected bool | null, got str"),
        ({"timeout_s": 0}, ["timeout_s"], "Expected float > 0"),
        ({"run_at": "tomorrow"}, ["run_at"], "Expected a time such as"),
        ({"stop_signal": "SIGKILL"}, ["stop_signal"], "Invalid enum value 'SIGKILL'"),
        ({"retry_rules": [{"exit_codes": [], "action": "fail"}]}, ["retry_rules", 0, "exit_codes"], ">= 1"),
        ({"retry_rules": [{"exit_codes": [1]}]}, ["retry_rules", 0, "action"], "Required"),
        (_sync(direction="sideways"), ["sync", "before", 0, "direction"], "Invalid enum value 'sideways'"),
        (_sync(bucket=""), ["sync", "before", 0, "bucket"], "length >= 1"),
        (_sync(prefix=None), ["sync", "before", 0, "prefix"], "Expected str, got null"),
        (_sync(pattern="("), ["sync", "before", 0, "pattern"], "not a valid regular expression"),
        (_sync(local_path=""), ["sync", "before", 0, "local_path"], "not empty"),
        (_sync(local_path="/"), ["sync", "before", 0, "local_path"], "directory of its own"),
        (_sync(local_path="//"), ["sync", "before", 0, "local_path"], "directory of its own"),
        (_sync(local_path="a/.."), ["sync", "before", 0, "local_path"], "directory of its own"),
        (_sync(local_path="../x"), ["sync", "before", 0, "local_path"], "does not lead out"),
        (_sync(local_path="a/../../x"), ["sync", "before", 0, "local_path"], "does not lead out"),
        (_sync(local_path="a\0"), ["sync", "before", 0, "local_path"], "no NUL"),
        (_sync(kind="file", prefix="a/"), ["sync", "before", 0, "prefix"], "key of one object"),
    ],
)  # fmt: skip
async def test_a_wrong_field_is_named(
    api: Api, fields: dict[str, Any], path: list[Any], message: str
) -> None:
    """The answer says where it is and what was expected."""
    answer = await api.post("/jobs", _definition(**fields))

    assert answer.status == 400
    (issue,) = answer.body["errors"]
    assert issue["path"] == ["body", *path]
    assert message in issue["message"]
    assert answer.body == {"errors": [issue], "success": False, "result": {}}
    assert set(issue) == {"code", "message", "path"}


@pytest.mark.parametrize("missing", ["command", "container_group_id"])
async def test_a_missing_field_is_required(api: Api, missing: str) -> None:
    """The original's word for it is kept."""
    definition = _definition()
    del definition[missing]

    answer = await api.post("/jobs", definition)

    assert answer.status == 400
    assert answer.body["errors"] == [
        {"code": "invalid_type", "message": "Required", "path": ["body", missing]}
    ]


async def test_an_empty_body_counts_as_an_empty_object(api: Api) -> None:
    """So the first required field is what is missing."""
    answer = await api.call("POST", "/jobs")

    assert answer.status == 400
    assert answer.body["errors"][0]["path"] == ["body", "command"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sync": {}, "input_bucket": "b"}, "Cannot use both sync and bucket/prefix"),
        ({"input_bucket": "b"}, "input_bucket and input_prefix must be given together"),
        ({"output_prefix": "p"}, "output_bucket and output_prefix must be given together"),
        ({"sync": {"before": [{**RULE, "direction": "upload"}]}}, 'sync.before.direction must be "download"'),
        ({"sync": {"during": [RULE]}}, 'sync.during.direction must be "upload"'),
        ({"sync": {"after": [RULE]}}, 'sync.after.direction must be "upload"'),
    ],
)
async def test_fields_that_contradict_each_other_are_refused(
    api: Api, fields: dict[str, Any], message: str
) -> None:
    """In the words of the original."""
    answer = await api.post("/jobs", _definition(**fields))

    assert (answer.status, answer.body) == (400, {"error": "Invalid request", "message": message})


async def test_a_job_of_nearly_a_megabyte_is_stored_and_a_larger_one_is_refused(api: Api) -> None:
    """The limit is above what the original takes."""
    stored = await api.post("/jobs", _definition(environment={"A": "x" * 900_000}))
    refused = await api.post("/jobs", _definition(environment={"A": "x" * 1_100_000}))

    assert stored.status == 202
    assert len((await api.job(stored.body["id"]))["environment"]["A"]) == 900_000
    assert (refused.status, refused.body["error"]) == (413, "Content Too Large")


async def test_a_key_makes_a_submission_safe_to_repeat(api: Api) -> None:
    """The same jobs again, or 422 when the body is another."""
    first = await api.post("/jobs", _definition(), idempotency_key="k1")
    again = await api.post("/jobs", _definition(), idempotency_key="k1")
    other = await api.post("/jobs", _definition(name="x"), idempotency_key="k1")

    assert "idempotent-replayed" not in first.headers
    assert (again.status, again.headers["idempotent-replayed"]) == (202, "true")
    assert again.body == first.body
    assert (other.status, other.body["error"]) == (422, "Unprocessable Content")
    assert (await api.get("/jobs")).body["_count"] == 1


async def test_a_key_that_is_too_long_is_refused(api: Api) -> None:
    """Rather than kept for a day."""
    assert (await api.post("/jobs", _definition(), idempotency_key="k" * 256)).status == 400
