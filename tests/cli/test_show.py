"""`kelpie show`: the whole story of one job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.scripted import Coordinator, Kelpie, attempt_object, job_object


def time(ago_s: float) -> str:
    """A timestamp of the API, `ago_s` seconds ago."""
    return f"{datetime.now(UTC) - timedelta(seconds=ago_s):%Y-%m-%dT%H:%M:%S}.000Z"


WHY: list[tuple[dict[str, Any], list[dict[str, Any]], str]] = [
    ({}, [], "waits for a worker of the container group default"),
    ({"run_at": "2999-01-01T00:00:00.000Z"}, [], "does not start before 2999-01-01T00:00:00.000Z"),
    (
        {"num_failures": 1, "attempt": 1, "retry_delay_s": 9000, "retry_delay_max_s": 9000},
        [attempt_object(outcome="failed", exit_code=2, ended=time(60))],
        "failed 1 of 3 times (exit code 2); next try not before about",
    ),
    (
        {"num_failures": 1, "attempt": 1},
        [attempt_object(outcome="failed", signal="SIGKILL")],
        "failed 1 of 3 times (signal SIGKILL); waits for a worker",
    ),
    (
        {"attempt": 1},
        [attempt_object(outcome="lost")],
        "attempt 1 was lost (the machine fell silent), which is no failure; waits for a worker",
    ),
    (
        {"status": "running", "attempt": 2, "machine_id": "m9", "heartbeat": time(5)},
        [attempt_object(outcome="interrupted", reason="notice"), attempt_object(2, outcome=None, ended=None)],
        "attempt 2 runs on m9, last heartbeat",
    ),
    (
        {"status": "failed", "num_failures": 3, "attempt": 3},
        [attempt_object(3, outcome="failed", reason="spawn", detail="no such file: trian")],
        "failed 3 of 3 times, the last: the command could not be started, no such file: trian",
    ),
    (
        {"status": "failed", "reason": "no-progress", "attempt": 20},
        [attempt_object(20, outcome="lost")],
        "it was interrupted too often without progress",
    ),
    ({"status": "canceled", "canceled": "2026-01-02T00:00:00.000Z"}, [], "canceled at 2026-01-02"),
    (
        {"status": "completed", "attempt": 1, "completed": "2026-01-02T00:00:00.000Z"},
        [attempt_object()],
        "completed at 2026-01-02T00:00:00.000Z by attempt 1",
    ),
]


@pytest.mark.parametrize(("fields", "attempts", "sentence"), WHY)
async def test_show_says_why_the_job_is_where_it_is(
    kelpie: Kelpie,
    coordinator: Coordinator,
    fields: dict[str, Any],
    attempts: list[dict[str, Any]],
    sentence: str,
) -> None:
    """Waiting, running or ended: one sentence says why."""
    job_id = coordinator.add(job_object(**fields))
    coordinator.attempts[job_id] = attempts

    result = await kelpie("show", job_id)

    assert result.code == 0
    assert sentence in result.out


async def test_every_attempt_is_shown(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """Machine, duration, outcome and how it ended, oldest first."""
    job_id = coordinator.add(job_object(status="completed", attempt=2))
    coordinator.attempts[job_id] = [attempt_object(1, outcome="failed", exit_code=137), attempt_object(2)]

    result = await kelpie("show", job_id)

    first, second = (line for line in result.out.splitlines() if "machine-" in line)
    assert first.split() == [
        "1",
        "machine-1",
        "2026-01-01T00:00:00Z",
        "1m30s",
        "failed",
        "exit",
        "code",
        "137",
        "3",
    ]
    assert second.split() == ["2", "machine-2", "2026-01-01T00:00:00Z", "1m30s", "completed", "3"]


async def test_progress_and_checkpoint_are_shown(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """What would be kept if the machine vanished now."""
    job_id = coordinator.add(
        job_object(
            progress={"progress": 0.5, "step": 5, "total": 10},
            last_checkpoint={"stored": "2026-01-01T00:00:00.000Z", "files": 3, "bytes": 3 << 20},
        )
    )

    result = await kelpie("show", job_id)

    assert "50%, step 5 of 10" in result.out
    assert "3 uploads, 3.0 MiB" in result.out


async def test_a_failure_shows_the_end_of_its_log(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """The last lines are shown without colors, old progress bars and escapes."""
    job_id = coordinator.add(job_object(status="failed", num_failures=3, attempt=1))
    tail = "".join(f"line {number}\n" for number in range(20))
    log = f"{tail} 10%\r 99%\n\x1b[31mValueError: no\x1b[0m \x1b]0;x\x07\n"
    coordinator.attempts[job_id] = [attempt_object(outcome="failed", exit_code=1, log_tail=log)]

    result = await kelpie("show", job_id)

    lines = result.out.splitlines()
    assert lines[-2:] == ["   99%", "  ValueError: no \\x1b]0;x\\x07"]
    assert "  line 12" in lines
    assert "  line 11" not in lines


async def test_programs_get_the_job_and_its_attempts(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """-o json is one object with both."""
    job_id = coordinator.add(job_object())
    coordinator.attempts[job_id] = [attempt_object()]

    result = await kelpie("show", "-o", "json", job_id)

    assert set(result.json) == {"job", "attempts"}
    assert result.json["job"]["id"] == job_id
    assert result.json["attempts"][0]["machine_id"] == "machine-1"


async def test_a_full_id_never_lists(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """A full id is asked for directly."""
    job_id = coordinator.add(job_object())

    await kelpie("show", job_id)

    assert coordinator.requests == [
        f"GET /jobs/{job_id}", f"GET /jobs/{job_id}/attempts", f"GET /jobs/{job_id}/explain"
    ]  # fmt: skip


async def test_the_beginning_of_an_id_is_enough(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """Four characters that only one recent job has find it."""
    job_id = coordinator.add(job_object(0xABCD1234))
    coordinator.add(job_object(1))

    result = await kelpie("show", "-q", "abcd")

    assert (result.code, result.out) == (0, f"{job_id}\n")


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [("abc", 2, "at least 4 characters"), ("abcd", 2, "could be any of these"), ("ffff", 3, "begins with")],
)
async def test_a_beginning_that_names_no_job_or_several_is_refused(
    kelpie: Kelpie, coordinator: Coordinator, text: str, code: int, sentence: str
) -> None:
    """Too short, ambiguous, unknown: each says so."""
    coordinator.add(job_object(0xABCD0001))
    coordinator.add(job_object(0xABCD0002))

    result = await kelpie("show", text)

    assert (result.code, result.out) == (code, "")
    assert sentence in result.err


async def test_a_job_that_failed_says_which_machines_will_not_get_it_again_soon(
    kelpie: Kelpie, coordinator: Coordinator
) -> None:
    """Two idle workers and a pending job look like a fault unless it says why."""
    job_id = coordinator.add(job_object(status="pending", attempt=2, num_failures=2, retry_delay_s=0))
    failed = [attempt_object(number, outcome="failed", exit_code=3, reason="exit") for number in (1, 2)]
    coordinator.attempts[job_id] = failed

    result = await kelpie("show", job_id)

    assert "other than machine-1 and machine-2, who failed it" in result.out


async def test_a_pending_job_is_explained_by_the_server_where_it_can(
    kelpie: Kelpie, coordinator: Coordinator
) -> None:
    """`explain` and `show` say the same."""
    job_id = coordinator.add(job_object())
    reasons = [{"kind": "queue", "message": "is number 7 in the queue", "position": 7}]
    coordinator.explanations[job_id] = {
        "job_id": job_id, "status": "pending", "summary": "is number 7 in the queue", "reasons": reasons
    }  # fmt: skip

    shown, explained = await kelpie("show", job_id), await kelpie("explain", job_id)
    kinds = await kelpie("explain", "-q", job_id)

    assert "is number 7 in the queue" in shown.out
    assert explained.out == f"{job_id} is pending:\n  is number 7 in the queue\n"
    assert kinds.out == "queue\n"
