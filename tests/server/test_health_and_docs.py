"""The open routes: is it alive, can it write, what can it do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.api import Api

ROUTES = {
    ("post", "/jobs"), ("get", "/jobs"), ("post", "/jobs/batch"), ("get", "/jobs/{job_id}"),
    ("delete", "/jobs/{job_id}"), ("get", "/jobs/{job_id}/attempts"), ("get", "/jobs/{job_id}/events"),
    ("get", "/jobs/{job_id}/signal"), ("post", "/jobs/{job_id}/heartbeat"),
    ("post", "/jobs/{job_id}/completed"), ("post", "/jobs/{job_id}/failed"),
    ("post", "/jobs/{job_id}/interrupted"), ("get", "/work"), ("post", "/users"),
    ("post", "/users/{user_id}/token"), ("get", "/users/me"), ("get", "/keys"),
    ("delete", "/keys/{key_id}"), ("get", "/livez"), ("get", "/readyz"),
    ("get", "/users/me/webhook"), ("put", "/users/me/webhook"), ("get", "/webhooks/deliveries"),
    ("post", "/webhooks/deliveries/{delivery_id}/resend"),
    ("get", "/metrics"), ("get", "/events"),
    ("get", "/jobs/{job_id}/explain"), ("get", "/container-groups"), ("get", "/machines"),
    ("delete", "/machines/{machine_id}/bans"),
    ("patch", "/jobs/{job_id}"), ("delete", "/jobs"), ("delete", "/users"),
    ("delete", "/jobs/container-groups/{container_group_id}"), ("post", "/jobs/{job_id}/retry"),
    ("post", "/jobs/cancel"), ("post", "/jobs/retry"),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/readyz/"])
async def test_a_server_that_is_well_says_so_to_anybody(nobody: Api, path: str) -> None:
    """And names its version and that of SQLite."""
    answer = await nobody.get(path)

    assert answer.status == 200
    assert set(answer.body) == {"status", "version", "sqlite", "sqlite_wal_fix"}
    assert answer.body["status"] == "ok"


async def test_every_answer_carries_a_request_id(api: Api, nobody: Api) -> None:
    """Refusals, too, and no two the same."""
    answers = [await api.get("/jobs"), await nobody.get("/jobs"), await api.get("/nowhere")]

    assert len({one.headers["x-request-id"] for one in answers}) == 3


async def test_the_document_describes_every_route(nobody: Api) -> None:
    """And no other."""
    document = (await nobody.get("/openapi.json")).body

    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert described == ROUTES
    assert document["openapi"].startswith("3.1")


async def test_every_reference_in_the_document_resolves(nobody: Api) -> None:
    """So that a generator can make a client of it."""
    document = (await nobody.get("/openapi.json")).body

    for reference in _values(document, "$ref"):
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in found, reference
            found = found[step]


async def test_operations_are_complete(nobody: Api) -> None:
    """Each has an id of its own, a summary, success and refusals; those that take a body describe it."""
    document = (await nobody.get("/openapi.json")).body
    operations = [one for methods in document["paths"].values() for one in methods.values()]

    ids = [one["operationId"] for one in operations]
    assert len(set(ids)) == len(ids)
    for one in operations:
        assert one["summary"]
        assert any(status.startswith("2") for status in one["responses"]), one["operationId"]
        assert ("401" in one["responses"]) is (one.get("security") != [])
    bodies = {one["operationId"] for one in operations if "requestBody" in one}
    assert {
        "post_CreateJob",
        "post_BatchCreateJobs",
        "post_JobHeartbeat",
        "post_ReportJobCompleted",
    } <= bodies


async def test_the_page_of_the_document_needs_nothing_from_elsewhere(nobody: Api) -> None:
    """Every asset is served here, and the browser is told to load no other."""
    page = await nobody.get("/docs")

    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    html = page.body.decode()
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?:https?:)?//", html)
    assets = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']+)", html)
    assert assets
    for asset in assets:
        if not asset.startswith("data:"):
            answer = await nobody.get(asset if asset.startswith("/") else f"/docs/{asset}")
            assert answer.status == 200, asset


@pytest.mark.parametrize("name", ["nothing.js", "..%2f..%2fauth.py", "swagger-ui%2fLICENSE", "%00"])
async def test_the_page_serves_its_own_files_only(nobody: Api, name: str) -> None:
    """A path out of the folder leads nowhere."""
    assert (await nobody.get(f"/docs/{name}")).status == 404


def _values(node: Any, name: str) -> Iterator[Any]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name and isinstance(value, str):
                yield value
            yield from _values(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value, name)
