"""Who may do what: credentials before everything, and scopes against routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kelpie_server import ServerProcess
from tests.server.api import GROUP, Api, work

REPORT = {"machine_id": "m1", "container_group_id": GROUP, "attempt": 1}
JOB = {"command": "x", "container_group_id": GROUP}
SCOPES = ("admin", "user", "worker", "read")
# Route, body, and the status for each scope; `ID` is a job of the key's own user that m1 holds.
ROUTES: list[tuple[str, str, Any, tuple[int, int, int, int]]] = [
    ("POST", "/jobs", JOB, (202, 202, 403, 403)),
    ("POST", "/jobs/batch", [JOB], (202, 202, 403, 403)),
    ("GET", "/jobs", None, (200, 200, 403, 200)),
    ("GET", "/jobs/ID", None, (200, 200, 403, 200)),
    ("GET", "/jobs/ID/attempts", None, (200, 200, 403, 200)),
    ("GET", "/jobs/ID/events", None, (200, 200, 403, 200)),
    ("DELETE", "/jobs/ID", None, (202, 202, 403, 403)),
    ("GET", work("m9", "empty"), None, (200, 200, 200, 403)),
    ("GET", "/jobs/ID/signal?attempt=1&machine_id=m1", None, (200, 200, 200, 403)),
    ("POST", "/jobs/ID/heartbeat", REPORT, (200, 200, 200, 403)),
    ("POST", "/jobs/ID/completed", REPORT, (200, 200, 200, 403)),
    ("POST", "/jobs/ID/failed", REPORT, (202, 202, 202, 403)),
    ("POST", "/jobs/ID/interrupted", REPORT, (202, 202, 202, 403)),
    ("POST", "/users", {}, (400, 403, 403, 403)),
    ("POST", "/users/nobody/token", {}, (404, 403, 403, 403)),
    ("GET", "/users/me", None, (200, 200, 200, 200)),
    ("GET", "/keys", None, (200, 200, 403, 200)),
    ("DELETE", "/keys/unknown", None, (404, 404, 403, 403)),
    ("GET", "/nowhere", None, (404, 404, 404, 404)),
]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("route", ROUTES, ids=[f"{one[0]} {one[1]}" for one in ROUTES])
async def test_a_scope_opens_its_routes_only(
    api: Api, make_api: Any, scope: str, route: tuple[str, str, Any, tuple[int, ...]]
) -> None:
    """Admin, user, worker, read."""
    method, path, body, statuses = route
    job = await api.submit()
    await api.claim("m1")
    caller = await make_api(api.user_id, scope=scope)

    answer = await caller.call(method, path.replace("ID", job["id"]), body)

    assert answer.status == statuses[SCOPES.index(scope)], answer


@pytest.mark.parametrize(
    ("method", "path", "body"), [one[:3] for one in ROUTES], ids=[f"{one[0]} {one[1]}" for one in ROUTES]
)
async def test_no_route_opens_without_a_key(nobody: Api, method: str, path: str, body: Any) -> None:
    """Not even to say that it does not exist."""
    answer = await nobody.call(method, path, body)

    assert answer.status == 401
    assert answer.body == {"error": "Unauthorized", "message": "API Key or Bearer Token Required"}
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize(
    ("headers", "status", "error", "message"),
    [
        ({"X_Kelpie_Key": ""}, 401, "Unauthorized", "API Key or Bearer Token Required"),
        ({"X_Kelpie_Key": "wrong"}, 403, "Forbidden", "Invalid API Key"),
        ({"X_Kelpie_Key": "klp_" + "0" * 72}, 403, "Forbidden", "Invalid API Key"),
        ({"Authorization": "Bearer klp_" + "0" * 72}, 403, "Forbidden", "Invalid API Key"),
        ({"Authorization": "Basic eDp5"}, 400, "Bad Request", "Bearer Token requires Salad-Project header"),
        ({"Authorization": "Bearer x.y.z"}, 400, "Bad Request", "Bearer Token requires Salad-Project header"),
        (
            {"Salad_Api_Key": "s"},
            400,
            "Bad Request",
            "Salad API Key requires Salad-Organization and Salad-Project headers",
        ),
        (
            {"Salad_Api_Key": "s", "Salad_Project": "p"},
            400,
            "Bad Request",
            "Salad API Key requires Salad-Organization and Salad-Project headers",
        ),
        ({"Authorization": "Basic eDp5", "Salad_Project": "p"}, 401, "Unauthorized",
         "API Key or Bearer Token Required"),
    ],
)  # fmt: skip
async def test_a_credential_that_does_not_do_is_refused(
    nobody: Api, headers: dict[str, str], status: int, error: str, message: str
) -> None:
    """In the order and the words of the original."""
    answer = await nobody.get("/jobs", **headers)

    assert (answer.status, answer.body) == (status, {"error": error, "message": message})


async def test_a_valid_key_in_either_header_wins(api: Api, nobody: Api) -> None:
    """Whatever else is sent along."""
    assert api.key is not None
    bearer = f"bearer {api.key}"

    answers = [
        await nobody.get("/users/me", x_kelpie_key=api.key),
        await nobody.get("/users/me", authorization=bearer),
        await nobody.get("/users/me", authorization=bearer, x_kelpie_key="wrong"),
        await nobody.get("/users/me", authorization="Bearer other", x_kelpie_key=api.key),
        await nobody.get("/users/me", salad_api_key="s", x_kelpie_key=api.key),
    ]

    assert [one.status for one in answers] == [200] * 5


async def test_other_users_things_do_not_exist(api: Api, make_api: Any) -> None:
    """Same status and same body as for an id that never was."""
    other = await make_api()
    theirs = (await other.submit())["id"]
    await other.claim("m1")

    for method, path, body, _ in ROUTES:
        if "ID" in path:
            stranger = await api.call(method, path.replace("ID", theirs), body)
            never = await api.call(method, path.replace("ID", "never-was"), body)
            assert (stranger.status, stranger.body) == (404, never.body), path
    assert (await other.job(theirs))["status"] == "running"


async def test_an_unknown_route_is_told_to_whoever_may_ask(api: Api) -> None:
    """For any method, and for a method that a path does not have."""
    for method, path in (
        ("GET", "/nowhere"), ("PUT", "/jobs"), ("GET", "/users"), ("GET", "/jobs/x/heartbeat"),
        ("GET", "/JOBS"), ("GET", "/"), ("POST", "/jobs/x/y/z"), ("GET", "/_framework_schema"),
        ("GET", "/_framework_schema/openapi.json"), ("GET", "/docs/../jobs/x/y"),
    ):  # fmt: skip
        answer = await api.call(method, path)
        assert (answer.status, answer.body) == (404, {"error": "Route Not Found"}), (method, path)


@pytest.mark.parametrize(
    "path",
    ["/docs/../jobs", "/docs/..%2fjobs", "/docs//jobs", "/docs/%2e%2e/jobs", "/docs/x/y", "//docs/../jobs"],
)  # fmt: skip
async def test_the_open_paths_lead_nowhere_else(nobody: Api, path: str) -> None:
    """A path that begins with an open one opens nothing."""
    answer = await nobody.get(path)

    assert answer.status in {401, 404}


async def test_the_admins_key_is_what_the_environment_says(tmp_path: Path) -> None:
    """Any string of sixteen characters; a changed one takes the place of the one before."""
    with ServerProcess(tmp_path) as server:
        before = server.admin_key
        server.stop()
        server.admin_key = "another key, with spaces & ümlauts"
        server.start()

        async with Api(server.url, server.admin_key) as admin, Api(server.url, before) as old:
            answers = [await admin.get("/users/me"), await old.get("/users/me")]

    assert [one.status for one in answers] == [200, 403]
    assert answers[0].body["username"] == "admin"
