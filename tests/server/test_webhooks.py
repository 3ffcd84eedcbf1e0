"""Webhooks of a real server: the routes, and that nothing committed is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kelpie.client import Client
from kelpie.contract import JobSpec
from kelpie.webhook_contract import WebhookChoice
from tests.kelpie_server import ServerProcess
from tests.server.api import GROUP, Api
from tests.server.conftest import MakeApi
from tests.server.receivers import Receiver

DEFAULT = {"key": None, "url": None}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that may send to private addresses."""
    with ServerProcess(tmp_path, environment={"KELPIE_WEBHOOK_ALLOW_PRIVATE": "true"}) as server:
        yield server


async def _until_delivered(api: Api, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(20):
        while True:
            found = (await api.get("/webhooks/deliveries")).body["deliveries"]
            if [one["state"] for one in found].count("delivered") == count:
                return list(found)
            await asyncio.sleep(0.02)


async def test_a_job_s_life_arrives_signed_and_without_any_api_key(server: ServerProcess) -> None:
    """Running, then completed; with the user's secret and word."""
    account = server.new_account()
    async with Receiver() as receiver, Client(server.url, account.key) as client:
        settings = await client.choose_webhook(WebhookChoice(key="my-word"))
        spec = JobSpec(command="true", container_group_id=GROUP, webhook=receiver.url)
        job = await client.submit(spec)
        async with Api(server.url, account.key) as api:
            await api.claim("m1")
            await api.report(job.id, "completed", "m1", attempt=1)
            received = await receiver.wait_for(2)
            await _until_delivered(api, 2)

        assert receiver.said == ["running", "completed"]
        for one in received:
            one.verify(settings.secret)
            assert one.headers["x-kelpie-key"] == "my-word"
        raw = msgspec.json.encode(received)
        assert account.key.encode() not in raw
        assert server.admin_key.encode() not in raw
        assert b"klp_" not in raw

        found = await client.deliveries(job_id=job.id)
        assert [one.message.status for one in found.deliveries] == ["completed", "running"]
        await client.resend(found.deliveries[0].id)
        again = (await receiver.wait_for(3))[2]
        assert again.headers["webhook-id"] == found.deliveries[0].id
        assert await client.webhook() == settings


async def test_what_was_committed_is_delivered_after_a_kill(server: ServerProcess) -> None:
    """The server dies while the receiver has not answered yet; the message comes again, with its id."""
    account = server.new_account()
    async with Receiver() as receiver, Api(server.url, account.key) as api:
        receiver.is_open.clear()
        job = await api.submit(webhook=receiver.url)
        await api.claim("m1")
        await api.report(job["id"], "completed", "m1", attempt=1)
        await receiver.wait_for(1)

        await asyncio.to_thread(server.kill)
        receiver.is_open.set()
        await asyncio.to_thread(server.start)

        received = await receiver.wait_for(3)
        assert receiver.said == ["running", "running", "completed"]
        assert received[0].headers["webhook-id"] == received[1].headers["webhook-id"]
        await _until_delivered(api, 2)


async def test_a_server_that_is_told_to_end_does_not_wait_for_receivers(server: ServerProcess) -> None:
    """What they had not answered comes again after the start."""
    account = server.new_account()
    async with Receiver() as receiver, Api(server.url, account.key) as api:
        receiver.is_open.clear()
        await api.submit(webhook=receiver.url)
        await api.claim("m1")
        await receiver.wait_for(1)

        assert await asyncio.to_thread(server.terminate) == 0
        receiver.is_open.set()
        await asyncio.to_thread(server.start)

        await _until_delivered(api, 1)
        assert receiver.said == ["running", "running"]
    assert "Traceback" not in server.log.read_text()


async def test_a_secret_is_made_on_first_use_and_stays(api: Api) -> None:
    """Whatever is chosen beside it."""
    first = (await api.get("/users/me/webhook")).body
    assert first.pop("secret").startswith("whsec_")
    assert first == DEFAULT

    secret = (await api.get("/users/me/webhook")).body["secret"]
    choice = {"key": "word", "url": "https://example.com/hook"}
    chosen = await api.call("PUT", "/users/me/webhook", choice)

    assert chosen.body == {"secret": secret, **choice}
    assert (await api.call("PUT", "/users/me/webhook", {})).body == {"secret": secret, **DEFAULT}


@pytest.mark.parametrize(
    ("choice", "field"),
    [
        ({"key": ""}, "key"),
        ({"key": "a\nb"}, "key"),
        ({"key": "a\n"}, "key"),
        ({"key": " a"}, "key"),
        ({"key": "\u00fc"}, "key"),
        ({"key": 3}, "key"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": ""}, "url"),
    ],
)
async def test_a_choice_that_cannot_be_sent_is_refused(
    api: Api, choice: dict[str, object], field: str
) -> None:
    """As problem details that name the field."""
    answer = await api.call("PUT", "/users/me/webhook", choice)

    assert answer.status == 400
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.body["errors"][0]["path"] == ["body", field]


async def test_an_api_key_is_refused_as_a_webhook_key(api: Api) -> None:
    """Whoever receives webhooks could act as its owner."""
    answer = await api.call("PUT", "/users/me/webhook", {"key": api.key})

    assert answer.status == 400
    assert answer.body["errors"][0]["path"] == ["body", "key"]
    assert str(api.key) not in str(answer.body)


@pytest.mark.parametrize("scope", ["read", "worker"])
async def test_the_secret_is_for_those_who_manage_jobs(make_api: MakeApi, scope: str) -> None:
    """With it one can forge messages."""
    api = await make_api(scope=scope)

    assert (await api.get("/users/me/webhook")).status == 403
    assert (await api.call("PUT", "/users/me/webhook", {})).status == 403
    assert (await api.post("/webhooks/deliveries/x/resend")).status == 403
    assert (await api.get("/webhooks/deliveries")).status == (200 if scope == "read" else 403)


async def test_deliveries_of_others_do_not_exist(api: Api, make_api: MakeApi) -> None:
    """Theirs and unknown ones get the same answer."""
    other = await make_api()
    job = await api.submit(webhook="http://192.0.2.1/")
    await api.claim("m1")
    mine = (await api.get(f"/webhooks/deliveries?job_id={job['id']}")).body

    theirs = (await other.get(f"/webhooks/deliveries?job_id={job['id']}")).body
    unknown = (await other.get("/webhooks/deliveries?job_id=unknown")).body
    resent = await other.post(f"/webhooks/deliveries/{mine['deliveries'][0]['id']}/resend")
    missing = await other.post("/webhooks/deliveries/unknown/resend")

    assert mine["_count"] == 1
    assert theirs == unknown == {"_count": 0, "deliveries": []}
    assert (resent.status, resent.body) == (missing.status, missing.body)
    assert missing.status == 404


async def test_deliveries_come_in_pages_newest_first(api: Api) -> None:
    """Of one job, or of all."""
    jobs = [await api.submit(webhook="http://192.0.2.1/") for _ in range(3)]
    for number in range(3):
        await api.claim(f"m{number}")

    pages = [
        (await api.get(f"/webhooks/deliveries?page_size=2&page={page}")).body["deliveries"] for page in (1, 2)
    ]

    ids = [one["job_id"] for page in pages for one in page]
    assert ids == [job["id"] for job in reversed(jobs)]
    assert (await api.get("/webhooks/deliveries?page_size=0")).status == 400


async def test_a_private_address_is_refused_by_default(api: Api) -> None:
    """And the list of deliveries says why."""
    async with Receiver() as receiver:
        job = await api.submit(webhook=receiver.url)
        await api.claim("m1")
        async with asyncio.timeout(20):
            while True:
                path = f"/webhooks/deliveries?job_id={job['id']}"
                (delivery,) = (await api.get(path)).body["deliveries"]
                if delivery["tries"]:
                    break
                await asyncio.sleep(0.02)

        assert "refused" in delivery["error"]
        assert not receiver.received


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"webhook": "ftp://example.com/x"}, ["body", "webhook"]),
        ({"webhook_events": ["started"]}, ["body", "webhook_events", 0]),
        ({"webhook_events": "running"}, ["body", "webhook_events"]),
    ],
)
async def test_a_webhook_that_can_never_hear_anything_is_refused(
    api: Api, fields: dict[str, object], path: list[object]
) -> None:
    """With the field."""
    answer = await api.post("/jobs", {"command": "c", "container_group_id": GROUP, **fields})

    assert answer.status == 400
    assert answer.body["errors"][0]["path"] == path
