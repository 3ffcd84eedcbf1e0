"""`kelpie submit`: flags and files become what the API takes, or every wrong field is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.scripted import Coordinator, Kelpie, job_object

ID = job_object()["id"]
ONE_TOML = 'command = "python"\narguments = ["train.py"]\n[environment]\nEPOCHS = "3"\n'


def given(body: dict[str, Any]) -> dict[str, Any]:
    """The fields a submission sets."""
    return {name: value for name, value in body.items() if value is not None}


async def test_a_command_is_submitted_and_its_id_printed(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """The id alone is on stdout; what to do next is said on stderr."""
    result = await kelpie("submit", "--", "python", "train.py", "--lr", "3")

    assert (result.code, result.out) == (0, f"{ID}\n")
    assert f"kelpie wait {ID}" in result.err
    assert given(coordinator.bodies[0]) == {
        "command": "python",
        "arguments": ["train.py", "--lr", "3"],
        "container_group_id": "default",
    }


async def test_quiet_says_nothing_but_the_id(kelpie: Kelpie) -> None:
    """With -q there is no hint either."""
    result = await kelpie("submit", "-q", "true")

    assert (result.out, result.err) == (f"{ID}\n", "")


async def test_every_flag_reaches_the_server(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """Each flag sets the field it stands for."""
    flags = (
        *("--group", "gpu", "--name", "night run", "--priority", "5", "--max-failures", "2"),
        *("--heartbeat-interval", "10", "--timeout", "60", "--label", "team=vision", "--compression"),
        *("--env", "A=1", "--env", "B=x=y", "--run-at", "2026-01-31T18:00:00Z"),
    )

    await kelpie("submit", *flags, "--", "true")

    assert given(coordinator.bodies[0]) == {
        "command": "true",
        "arguments": [],
        "container_group_id": "gpu",
        "name": "night run",
        "priority": 5,
        "max_failures": 2,
        "heartbeat_interval": 10,
        "timeout_s": 60,
        "labels": {"team": "vision"},
        "compression": True,
        "environment": {"A": "1", "B": "x=y"},
        "run_at": "2026-01-31T18:00:00Z",
    }


async def test_places_become_sync_rules(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """A checkpoint is fetched before and stored during; s3:// may stand before a bucket."""
    places = (
        *("--download", "data/in:/input", "--checkpoint", "s3://state/a:b:/checkpoint"),
        *("--during", "logs:/logs", "--after", "out/x/y:/output"),
    )

    await kelpie("submit", *places, "true")

    state = {"bucket": "state", "prefix": "a:b", "local_path": "/checkpoint"}
    assert coordinator.bodies[0]["sync"] == {
        "before": [
            {"bucket": "data", "prefix": "in", "local_path": "/input", "direction": "download"},
            {**state, "direction": "download"},
        ],
        "during": [
            {"bucket": "logs", "prefix": "", "local_path": "/logs", "direction": "upload"},
            {**state, "direction": "upload"},
        ],
        "after": [{"bucket": "out", "prefix": "x/y", "local_path": "/output", "direction": "upload"}],
    }


@pytest.mark.parametrize("place", ["bucket", "bucket/prefix", "s3://bucket/prefix", ":/local", "bucket:"])
async def test_half_a_place_is_refused(kelpie: Kelpie, coordinator: Coordinator, place: str) -> None:
    """A place names a bucket and a local path."""
    result = await kelpie("submit", "--download", place, "true")

    assert result.code == 2
    assert "BUCKET/PREFIX:LOCAL" in result.err
    assert not coordinator.bodies


async def test_a_secret_is_passed_on_by_name(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """`--env NAME` takes the value from the environment, so that it is on no command line."""
    kelpie.environment["TOKEN"] = "s3cret"

    await kelpie("submit", "--env", "TOKEN", "true")

    assert coordinator.bodies[0]["environment"] == {"TOKEN": "s3cret"}


async def test_an_absent_variable_is_refused(kelpie: Kelpie) -> None:
    """`--env NAME` of a variable that is not set is a mistake."""
    result = await kelpie("submit", "--env", "TOKEN", "true")

    assert result.code == 2
    assert "TOKEN" in result.err


@pytest.mark.parametrize("args", [(), ("-f", "job.toml", "--", "true")])
async def test_either_a_command_or_a_file(kelpie: Kelpie, args: tuple[str, ...]) -> None:
    """Neither, or both, is a usage error."""
    result = await kelpie("submit", *args)

    assert result.code == 2
    assert "either a command" in result.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("job.toml", ONE_TOML),
        ("job.json", '{"command": "python", "arguments": ["train.py"], "environment": {"EPOCHS": "3"}}'),
    ],
)
async def test_a_file_with_one_job_is_submitted(
    kelpie: Kelpie, coordinator: Coordinator, name: str, text: str
) -> None:
    """JSON and TOML say the same; flags beside the file are added."""
    (kelpie.directory / name).write_text(text)

    result = await kelpie("submit", "-f", name, "-g", "gpu", "--env", "SEED=1")

    assert result.out == f"{ID}\n"
    assert given(coordinator.bodies[0]) == {
        "command": "python",
        "arguments": ["train.py"],
        "container_group_id": "gpu",
        "environment": {"EPOCHS": "3", "SEED": "1"},
    }


@pytest.mark.parametrize(
    "text",
    [
        '[{"command": "a"}, {"command": "b"}]',
        '{"jobs": [{"command": "a"}, {"command": "b"}]}',
        '[[jobs]]\ncommand = "a"\n[[jobs]]\ncommand = "b"\n',
    ],
)
async def test_a_batch_comes_from_stdin(kelpie: Kelpie, coordinator: Coordinator, text: str) -> None:
    """An array, or `jobs` in JSON or TOML, is one batch; ids come out in its order."""
    result = await kelpie("submit", "-f", "-", stdin=text)

    assert coordinator.requests == ["POST /jobs/batch"]
    assert [spec["command"] for spec in coordinator.bodies[0]] == ["a", "b"]
    assert result.out.split() == [job_object(1)["id"], job_object(2)["id"]]


async def test_every_wrong_field_of_a_file_is_named(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """One run names them all: what is there, what should be, and what was probably meant."""
    rule = {"bucket": "", "prefix": "p", "local_path": "/x", "direction": "sideways"}
    wrong = {
        "arguments": ["a", 1],
        "max_failurs": 3,
        "timeout": 5,
        "priority": "high",
        "environment": {"EPOCHS": 3},
        "sync": {"before": [rule]},
        "max_failures": 0,
    }
    (kelpie.directory / "jobs.json").write_text(json.dumps([{"command": "true"}, wrong]))

    result = await kelpie("submit", "-f", "jobs.json")

    assert result.code == 2
    for sentence in (
        "jobs[1].command: required, but missing",
        "jobs[1].arguments[1]: expected str, got int",
        "jobs[1].max_failurs: no such field; did you mean `max_failures`?",
        "jobs[1].timeout: no such field; did you mean `timeout_s`?",
        "jobs[1].priority: expected int, got str",
        "jobs[1].environment.EPOCHS: expected str, got int",
        "jobs[1].sync.before[0].bucket: expected str of length >= 1",
        "jobs[1].sync.before[0].direction: expected one of download, upload; got 'sideways'",
        "jobs[1].max_failures: expected int >= 1; got 0",
    ):
        assert sentence in result.err
    assert not coordinator.bodies


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("job.toml", "command = ", "is not valid TOML"),
        ("job.json", "{", "is not valid JSON"),
        ("job.json", "[]", "holds 0 jobs"),
        ("job.json", '{"jobs": [], "group": "x"}', "nothing stands beside `jobs`"),
        ("job.json", '"text"', "expected object, got str"),
        ("job.json", '{"command": "x", "sync": "no"}', "sync: expected object, got str"),
        ("job.toml", 'command = "x"\nrun_at = 2026-01-31T18:00:00Z', "expected a time in quotes"),
    ],
)
async def test_a_file_that_holds_no_job_is_refused(
    kelpie: Kelpie, coordinator: Coordinator, name: str, text: str, sentence: str
) -> None:
    """What is not a job is said to be none, with the reason."""
    (kelpie.directory / name).write_text(text)

    result = await kelpie("submit", "-f", name)

    assert result.code == 2
    assert sentence in result.err
    assert not coordinator.bodies


async def test_a_file_that_is_not_there_is_named(kelpie: Kelpie) -> None:
    """The sentence says which file cannot be read and why."""
    result = await kelpie("submit", "-f", "gone.json")

    assert (result.code, result.err) == (2, "gone.json cannot be read: No such file or directory.\n")


async def test_every_field_the_server_refuses_is_named(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """The server's list of wrong fields is told line by line."""
    coordinator.refusal = (
        400,
        {
            "errors": [
                {"code": "custom", "message": "not a time", "path": ["body", "run_at"]},
                {
                    "code": "custom",
                    "message": "leads out",
                    "path": ["body", "sync", "after", 0, "local_path"],
                },
            ],
            "success": False,
            "result": {},
        },
    )

    result = await kelpie("submit", "--run-at", "soon", "true")

    assert (result.code, result.out) == (2, "")
    assert "  run_at: not a time\n" in result.err
    assert "  sync.after[0].local_path: leads out\n" in result.err


async def test_a_refusal_in_a_batch_names_the_job(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """The server's index says which of the jobs is wrong."""
    coordinator.refusal = (400, {"error": "Invalid request", "message": "Cannot use both", "index": 1})

    result = await kelpie("submit", "-f", "-", stdin='[{"command": "a"}, {"command": "b"}]')

    assert (result.code, result.err) == (2, "Job 1 of the batch: Cannot use both.\n")


async def test_submit_can_wait_for_the_end(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """With --wait the exit code is that of `kelpie wait`."""
    coordinator.add(job_object(status="running", attempt=1, machine_id="m1"), job_object(status="failed"))

    result = await kelpie("submit", "--wait", "false")

    assert (result.code, result.out) == (1, f"{ID}\n")


async def test_the_whole_job_can_be_printed(kelpie: Kelpie) -> None:
    """With -o json one job is an object and a batch an array."""
    one = await kelpie("submit", "-o", "json", "true")
    batch = await kelpie("submit", "-o", "json", "-f", "-", stdin='[{"command": "a"}]')

    assert one.json["id"] == ID
    assert [job["command"] for job in batch.json] == ["a"]
