"""GET /container-groups, GET /machines and DELETE /machines/{id}/bans."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from kelpie.client import Client
from tests.server.api import GROUP, Api

WAIT_S = 20


async def groups(api: Api, query: str = "") -> list[dict[str, Any]]:
    """The queues a caller sees."""
    answer = await api.get(f"/container-groups{query}")
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.body["container_groups"]
    return found


async def machines(api: Api) -> list[dict[str, Any]]:
    """The machines a caller sees."""
    answer = await api.get("/machines")
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.body["machines"]
    return found


async def test_a_queue_is_counted_by_state(api: Api) -> None:
    """With the oldest that waits and who asked for work."""
    done, _, waiting = await api.submit(), await api.submit(), await api.submit()
    await api.claim("m1")
    await api.report(done["id"], "completed", "m1", attempt=1)
    await api.claim("m2")

    (group,) = await groups(api)

    assert group["container_group_id"] == GROUP
    assert group["jobs"] == {"pending": 1, "running": 1, "completed": 1, "canceled": 0, "failed": 0}
    assert group["oldest_pending"] == waiting["created"]
    assert group["oldest_pending_s"] >= 0
    assert group["num_workers"] == 2
    assert {one["machine_id"] for one in group["workers"]} == {"m1", "m2"}


async def test_a_queue_that_is_only_polled_is_listed(api: Api) -> None:
    """In pages, by name."""
    await api.claim("m1", "b")
    await api.claim("m1", "a")

    assert [one["container_group_id"] for one in await groups(api)] == ["a", "b"]
    assert [one["container_group_id"] for one in await groups(api, "?page=2&page_size=1")] == ["b"]
    assert (await api.get("/container-groups?page_size=0")).status == 400


async def test_machines_show_what_they_hold(api: Api) -> None:
    """Version, groups and jobs; the last seen comes first."""
    job = await api.submit()
    await api.claim("idle", "elsewhere", version="1.2")
    await api.claim("busy", version="1.3")

    busy, idle = sorted(await machines(api), key=lambda one: str(one["machine_id"]))

    assert (busy["machine_id"], busy["version"], busy["container_groups"]) == ("busy", "1.3", [GROUP])
    assert [(one["job_id"], one["attempt"]) for one in busy["jobs"]] == [(job["id"], 1)]
    assert (idle["version"], idle["jobs"], idle["num_bans"]) == ("1.2", [], 0)


async def test_bans_are_lifted_and_who_waits_is_woken(api: Api) -> None:
    """The machine gets the job it failed, at once."""
    job = await api.submit(retry_delay_s=0)
    await api.claim("m1")
    await api.report(job["id"], "failed", "m1", attempt=1)
    assert (await machines(api))[0]["num_bans"] == 1
    poll = asyncio.create_task(api.claim("m1", wait=WAIT_S))
    for _ in range(5):
        await api.get("/users/me")

    answer = await api.delete("/machines/m1/bans")

    assert (answer.status, answer.body) == (200, {"count": 1})
    async with asyncio.timeout(10):
        assert (await poll)["id"] == job["id"]


async def test_others_machines_and_groups_do_not_exist(api: Api, make_api: Any) -> None:
    """Nor are their bans lifted; a read key looks and does not touch."""
    job = await api.submit(retry_delay_s=600)
    await api.claim("m1")
    await api.report(job["id"], "failed", "m1", attempt=1)
    stranger, reader = await make_api(), await make_api(api.user_id, scope="read")

    assert await groups(stranger) == await machines(stranger) == []
    assert (await stranger.delete("/machines/m1/bans")).body == {"count": 0}
    assert (await reader.delete("/machines/m1/bans")).status == 403
    assert (await machines(reader))[0]["num_bans"] == 1
    worker = await make_api(api.user_id, scope="worker")
    assert [(await worker.get(path)).status for path in ("/machines", "/container-groups")] == [403, 403]


async def test_the_client_and_the_command_show_both(api: Api, tmp_path: Path) -> None:
    """As tables and as ids."""
    job = await api.submit()
    await api.claim("m1", version="9")
    async with Client(api.url, api.key) as client:
        assert (await client.container_groups()).container_groups[0].num_workers == 1
        assert (await client.machines()).machines[0].jobs[0].job_id == job["id"]
        assert (await client.lift_bans("m1")).count == 0
        assert (await client.explain(job["id"])).status == "running"

    assert (await _kelpie(api, tmp_path, "groups", "-q")).split() == [GROUP]
    assert GROUP in await _kelpie(api, tmp_path, "groups")
    assert (await _kelpie(api, tmp_path, "machines", "-q")).split() == ["m1"]
    assert job["id"] in await _kelpie(api, tmp_path, "machines")


async def _kelpie(api: Api, directory: Path, *args: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kelpie", *args),
        cwd=directory,
        env={"KELPIE_API_URL": api.url, "KELPIE_API_KEY": api.key or ""},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()
