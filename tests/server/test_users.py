"""Users and keys: making, listing, revoking."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from tests.server.api import Api, work


async def test_an_admin_adds_a_user(admin: Api) -> None:
    """A second one of the same name is refused in the words of the original."""
    name = f"name-{uuid.uuid4()}"

    first = await admin.post("/users", {"username": name})
    second = await admin.post("/users/", {"username": name})

    assert first.status == 201
    assert list(first.body) == ["id", "username", "created"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.body["created"])
    assert (second.status, second.body) == (400, {"error": "User exists", "message": "User exists"})


async def test_a_key_opens_the_door_for_its_user(admin: Api, make_api: Any) -> None:
    """Whoever asks who it is hears the user the key was made for."""
    user = (await admin.post("/users", {"username": f"name-{uuid.uuid4()}"})).body

    made = await admin.post(f"/users/{user['id']}/token", {"org_name": "o", "project_name": "p"})
    caller = await make_api(user["id"])

    assert made.status == 201
    assert set(made.body) == {"token", "id"}
    assert made.body["token"].startswith("klp_")
    assert (await caller.get("/users/me")).body == user


async def test_a_key_for_an_unknown_user_is_not_made(admin: Api) -> None:
    """In the words of the original."""
    answer = await admin.post("/users/nobody/token", {"org_name": "o", "project_name": "p"})

    assert (answer.status, answer.body) == (404, {"error": "User not found", "message": "User not found"})


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"scope": "god"}, "scope"),
        ({"expires_in_s": 0}, "expires_in_s"),
        ({"org_name": 1}, "org_name"),
        ({"scope": "user", "container_group_id": "g"}, "scope"),
    ],
)
async def test_a_wrong_key_request_is_refused_by_name(admin: Api, body: dict[str, Any], name: str) -> None:
    """Before the user is looked for."""
    answer = await admin.post("/users/nobody/token", body)

    assert (answer.status, answer.body["errors"][0]["path"]) == (400, ["body", name])


async def test_a_revoked_key_is_refused_from_that_moment(api: Api, make_api: Any) -> None:
    """Even one that was just used; revoking again is harmless."""
    other = await make_api(api.user_id, name="to be revoked")
    assert (await other.get("/users/me")).status == 200
    (key,) = [one for one in (await api.get("/keys")).body["keys"] if one["name"] == "to be revoked"]

    answers = [await api.delete(f"/keys/{key['id']}") for _ in range(2)]

    assert [one.status for one in answers] == [204, 204]
    refused = await other.get("/users/me")
    assert (refused.status, refused.body) == (403, {"error": "Forbidden", "message": "Invalid API Key"})
    (listed,) = [one for one in (await api.get("/keys")).body["keys"] if one["id"] == key["id"]]
    assert listed["revoked"] is not None


async def test_a_list_of_keys_shows_no_key(api: Api, admin: Api) -> None:
    """Only what is known of them, and only the caller's own."""
    answer = await api.get("/keys")

    assert api.key is not None
    assert api.key not in str(answer.body)
    assert {one["user_id"] for one in answer.body["keys"]} == {api.user_id}
    assert len((await admin.get("/keys")).body["keys"]) > len(answer.body["keys"])


async def test_another_users_key_cannot_be_revoked(api: Api, make_api: Any) -> None:
    """It is as unknown as none at all."""
    other = await make_api()
    theirs, *_ = (await other.get("/keys")).body["keys"]

    answers = [await api.delete(f"/keys/{key}") for key in (theirs["id"], "unknown")]

    assert [one.status for one in answers] == [404, 404]
    assert answers[0].body == answers[1].body
    assert (await other.get("/users/me")).status == 200


async def test_a_key_that_has_expired_is_refused(api: Api, make_api: Any) -> None:
    """Also when it was used before."""
    import asyncio

    short = await make_api(api.user_id, expires_in_s=1)
    assert (await short.get("/users/me")).status == 200

    # The process's own clock decides, so asking again is all there is.
    while (answer := await short.get("/users/me")).status == 200:  # noqa: ASYNC110
        await asyncio.sleep(0.05)

    assert (answer.status, answer.body["message"]) == (403, "Invalid API Key")


async def test_an_attempt_survives_the_key_that_claimed_it(api: Api, make_api: Any) -> None:
    """Another key of the same user may report it."""
    worker = await make_api(api.user_id, scope="worker", name="w")
    job = await api.submit()
    assert (await worker.get(work("m1"))).body[0]["id"] == job["id"]
    (key,) = [one for one in (await api.get("/keys")).body["keys"] if one["name"] == "w"]

    await api.delete(f"/keys/{key['id']}")

    assert (await worker.report(job["id"], "heartbeat", "m1", attempt=1)).status == 403
    assert (await api.report(job["id"], "completed", "m1", attempt=1)).status == 200
