"""What keeps strangers from doing harm: limits on failed logins, slow bodies, and other people's pages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kelpie.errors import TooManyRequests
from kelpie.server.logins import FailedLogins
from tests.kelpie_server import ServerProcess
from tests.server.api import Api, work

ORIGIN = "https://ops.example.org"


async def test_too_many_failed_logins_are_told_to_wait(tmp_path: Path) -> None:
    """But a valid key from the same address goes on working: a fleet sits behind one NAT."""
    with ServerProcess(tmp_path, environment={"KELPIE_FAILED_LOGINS_PER_MINUTE": "3"}) as server:
        async with Api(server.url, "klp_wrong") as wrong, Api(server.url, server.admin_key) as admin:
            answers = [await wrong.get("/jobs") for _ in range(4)]
            right = await admin.get("/jobs")
            still = await wrong.get("/users/me")

    assert [one.status for one in answers] == [403, 403, 403, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].body["error"] == "Too Many Requests"
    assert (right.status, still.status) == (200, 429)


def test_failures_are_forgotten_with_time() -> None:
    """And one address is not refused for another."""
    now = 0.0
    failures = FailedLogins(per_minute=2, clock=lambda: now)
    failures.count("a")
    failures.count("a")
    with pytest.raises(TooManyRequests) as refused:
        failures.count("a")
    failures.count("b")

    now += refused.value.retry_after_s

    failures.count("a")


@pytest.mark.parametrize("path", ["/jobs", "/jobs/x/heartbeat", "/jobs/x/interrupted"])
async def test_a_body_that_never_ends_is_given_up(tmp_path: Path, path: str) -> None:
    """On the quick routes and the others."""
    with ServerProcess(tmp_path, environment={"KELPIE_BODY_PATIENCE_S": "0.3"}) as server:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Kelpie-Key: {server.admin_key}\r\n"
        writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())

        async with asyncio.timeout(20):
            answer = await reader.read()

        writer.close()
    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_long_poll_is_no_slow_body(tmp_path: Path) -> None:
    """It may wait longer than a body may."""
    with ServerProcess(tmp_path, environment={"KELPIE_BODY_PATIENCE_S": "0.1"}) as server:
        async with Api(server.url, server.admin_key) as admin:
            assert (await admin.get(work("m1", wait=0.5))).status == 200


async def test_pages_of_a_configured_origin_may_use_the_api(tmp_path: Path) -> None:
    """The preflight needs no key; another origin gets no permission."""
    with ServerProcess(tmp_path, environment={"KELPIE_CORS_ORIGINS": ORIGIN}) as server:
        async with Api(server.url) as nobody, Api(server.url, server.admin_key) as admin:
            asks = {"Access_Control_Request_Method": "POST"}
            preflight = await nobody.call("OPTIONS", "/jobs", Origin=ORIGIN, **asks)
            foreign = await nobody.call("OPTIONS", "/jobs", Origin="https://evil.example", **asks)
            answer = await admin.get("/jobs", Origin=ORIGIN)
            refused = await nobody.get("/jobs", Origin=ORIGIN)

    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "x-kelpie-key" in preflight.headers["access-control-allow-headers"]
    assert foreign.status == 401
    assert "access-control-allow-origin" not in foreign.headers
    for one in (answer, refused):
        assert (one.headers["access-control-allow-origin"], one.headers["vary"]) == (ORIGIN, "Origin")


async def test_without_configuration_no_origin_is_allowed(api: Api) -> None:
    """Nor is it mentioned."""
    answer = await api.get("/jobs", Origin=ORIGIN)

    assert not [name for name in answer.headers if name.startswith("access-control")]
