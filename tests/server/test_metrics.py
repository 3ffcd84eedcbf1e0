"""GET /metrics: what Prometheus scrapes."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.kelpie_server import ServerProcess
from tests.server.api import GROUP, Api


async def scraped(admin: Api) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    answer = await admin.get("/metrics")
    assert answer.status == 200, answer
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.body.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


async def test_what_a_server_did_is_counted(fresh_server: ServerProcess) -> None:
    """Jobs by state and group, claims, heartbeats, commits and requests, and no secret."""
    account = fresh_server.new_account()
    async with (
        Api(fresh_server.url, account.key) as api,
        Api(fresh_server.url, fresh_server.admin_key) as admin,
    ):
        job, _ = await api.submit(environment={"TOKEN": "hush"}), await api.submit()
        await api.claim("m1")
        await api.report(job["id"], "heartbeat", "m1", attempt=1)
        await api.get("/no/such/route")

        found = await scraped(admin)
        text = (await admin.get("/metrics")).body.decode()

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    for status in ("pending", "running"):
        assert value("kelpie_jobs", user=account.username, group=GROUP, status=status) == 1
    assert value("kelpie_oldest_pending_seconds", user=account.username, group=GROUP) >= 0
    assert value("kelpie_claim_seconds_count") == value("kelpie_heartbeats_total") == 1
    assert value("kelpie_commit_seconds_count") == value("kelpie_batch_operations_count") > 0
    assert value("kelpie_wal_bytes") > 0
    assert value("kelpie_waiters") == 0
    assert value("kelpie_requests_total", method="POST", route="/jobs", status="202") == 2
    route = "/jobs/{job_id}/heartbeat"
    assert value("kelpie_requests_total", method="POST", route=route, status="200") == 1
    assert value("kelpie_requests_total", method="GET", route="(none)", status="404") == 1
    assert not [one for one in ("hush", account.key, job["id"], "m1", "/no/such") if one in text]


async def test_a_lost_lease_is_counted(fresh_server: ServerProcess) -> None:
    """Once it has run out."""
    account = fresh_server.new_account()
    async with (
        Api(fresh_server.url, account.key) as api,
        Api(fresh_server.url, fresh_server.admin_key) as admin,
    ):
        await api.submit(heartbeat_interval=1)
        await api.claim("m1")
        assert await api.claim("m2", wait=20) is not None

        assert (await scraped(admin))["kelpie_leases_lost_total", frozenset()] == 1


async def test_metrics_are_for_those_who_watch(api: Api, make_api: Any, nobody: Api) -> None:
    """An admin or a read key; no other."""
    reader, worker = await make_api(api.user_id, scope="read"), await make_api(api.user_id, scope="worker")

    answers = [await one.get("/metrics") for one in (reader, api, worker, nobody)]

    assert [one.status for one in answers] == [200, 403, 403, 401]
