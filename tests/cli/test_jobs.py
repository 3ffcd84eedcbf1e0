"""`kelpie jobs` and `kelpie cancel`."""

from __future__ import annotations

import json

from tests.cli.scripted import Coordinator, Kelpie, job_object


async def test_jobs_are_listed_as_a_table(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """A pipe gets whole ids, a name or else the command, and how far it is."""
    coordinator.add(
        job_object(1, name="night", status="running", attempt=2, machine_id="m7", progress={"progress": 0.42})
    )
    coordinator.add(job_object(2, container_group_id="gpu"))

    result = await kelpie("jobs")

    head, first, second = result.out.splitlines()
    assert head.split() == ["ID", "NAME", "GROUP", "STATUS", "ATTEMPT", "PROGRESS", "AGE", "MACHINE"]
    assert first.split()[:6] == [job_object(1)["id"], "night", "default", "running", "2", "42%"]
    assert first.split()[-1] == "m7"
    assert "python train.py" in second
    assert "gpu" in second


async def test_filters_are_passed_on(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """Each flag becomes the query parameter of the API."""
    await kelpie("jobs", "--status", "failed", "-g", "gpu", "--page-size", "5", "--page", "2", "--asc")

    assert coordinator.requests == [
        "GET /jobs?status=failed&container_group_id=gpu&page_size=5&page=2&asc=true"
    ]


async def test_no_jobs_is_said_on_stderr(kelpie: Kelpie) -> None:
    """An empty list is still a table on stdout."""
    result = await kelpie("jobs")

    assert (result.code, result.err) == (0, "No jobs.\n")


async def test_a_full_page_says_how_to_go_on(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """A page that is full names the next one."""
    coordinator.add(job_object())

    result = await kelpie("jobs", "--page-size", "1")

    assert "--page 2" in result.err


async def test_jobs_are_printed_for_programs(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """Ids, an array, or one object a line."""
    ids = [coordinator.add(job_object(1)), coordinator.add(job_object(2))]

    assert (await kelpie("jobs", "-q")).out.split() == ids
    assert (await kelpie("jobs", "-o", "name")).out.split() == ids
    assert [job["id"] for job in (await kelpie("jobs", "-o", "json")).json] == ids
    lines = (await kelpie("jobs", "-o", "jsonl")).out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids


async def test_a_name_cannot_command_the_terminal(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """Escapes are shown by their codes, in tables and in JSON; markup is only text."""
    name = "\x1b]0;owned\x07\x9b31m[red]x[/red]\nnext"
    coordinator.add(job_object(name=name))

    table = await kelpie("jobs")
    document = await kelpie("jobs", "-o", "json")

    assert "\\x1b]0;owned\\x07\\x9b31m[red]x[/red]\\nnext" in table.out
    for text in (table.out, document.out):
        assert not {"\x1b", "\x07", "\x9b"} & set(text)
    assert document.json[0]["name"] == name


async def test_jobs_are_canceled(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """Each id is confirmed on stdout."""
    ids = [coordinator.add(job_object(1)), coordinator.add(job_object(2, status="running"))]

    result = await kelpie("cancel", *ids)

    assert (result.code, result.err) == (0, "")
    assert result.out == f"{ids[0]} canceled\n{ids[1]} canceled\n"


async def test_an_unknown_job_is_not_found(kelpie: Kelpie) -> None:
    """404 ends with 3."""
    result = await kelpie("cancel", "0" * 36)

    assert (result.code, result.out) == (3, "")
    assert "Job not found." in result.err


async def test_an_ended_job_keeps_no_other_from_being_canceled(
    kelpie: Kelpie, coordinator: Coordinator
) -> None:
    """409 ends with 5, after the rest was canceled."""
    ended = coordinator.add(job_object(1, status="completed"))
    waiting = coordinator.add(job_object(2))

    result = await kelpie("cancel", ended, waiting)

    assert (result.code, result.out) == (5, f"{waiting} canceled\n")
    assert f"{ended} was not canceled:\nJob already completed.\n" in result.err


async def test_a_short_id_cancels_nothing(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """Four characters are enough to look, not to end a job."""
    coordinator.add(job_object(0xABCD0000))

    short = await kelpie("cancel", "abcd")
    longer = await kelpie("cancel", "abcd0000")

    assert (short.code, short.out) == (2, "")
    assert longer.code == 0


async def test_jobs_are_retried_with_the_exit_codes_of_cancel(
    kelpie: Kelpie, coordinator: Coordinator
) -> None:
    """One that cannot be retried keeps no other from it."""
    waiting = coordinator.add(job_object(1))
    failed = coordinator.add(job_object(2, status="failed"))

    result = await kelpie("retry", waiting, failed)

    assert (result.code, result.out) == (5, f"{failed} retried\n")
    assert f"{waiting} was not retried:" in result.err


async def test_labels_name_and_dependencies_are_passed_on(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """A label may be repeated, and so may a dependency."""
    await kelpie("jobs", "--label", "a=1", "--label", "b=2", "--name", "n")
    await kelpie("submit", "--depends-on", "x", "--depends-on", "y", "--", "true")

    assert "name=n&label=a%3D1&label=b%3D2" in coordinator.requests[0].replace(
        "label=a=1", "label=a%3D1"
    ).replace("label=b=2", "label=b%3D2")
    assert coordinator.bodies[0]["after"] == ["x", "y"]
