"""Whatever is sent, the server says what is wrong with it and lives on: nothing gives a 5xx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from kelpie.contract import JobSpec
from tests.server.api import GROUP, Api

ODD: list[Any] = [
    None, True, 0, -1, 1, 1.5, 2**31, 2**63, 2**64, -(2**63), 10**30, 1e308, "", "x", "\0", "\u2028",
    "x" * 5000, [], [None], {}, {"": None}, [[[]]], {"a": {"b": {"c": []}}}, ["x"] * 300, "1e999", "-0",
    [0, -1, 256],
]  # fmt: skip
BODIES = [
    b"", b" ", b"\0", b"null", b"true", b"1", b'"x"', b"[]", b"{}", b"[" * 100_000, b'{"a":' * 50_000,
    b'{"command":' + b"[" * 10_000 + b"]" * 10_000 + b"}", b'\xff\xfe{"command":"x"}', b'{"command":"\xff"}',
    b'{"command":"\\ud800","container_group_id":"g"}', b'{"command":"x","container_group_id":"\\udfff"}',
    b'{"command":NaN}', b'{"command":"x","container_group_id":"g","timeout_s":Infinity}',
    b'{"command":"x","container_group_id":"g","timeout_s":1e999}',
    b'{"command":"x","container_group_id":"g","priority":' + b"9" * 10_000 + b"}",
    b'{"command":"x","container_group_id":"g","environment":{"a":"1","a":"2"}}',
    b'{"command":"x","container_group_id":"g"} trailing', b'{"command":"x",}', b"\xef\xbb\xbf{}", b"{'a':1}",
    b'{"machine_id":"\\u0000","container_group_id":"g"}', b"\x1f\x8b\x08" + b"x" * 50,
]  # fmt: skip
POSTS = ["/jobs", "/jobs/batch", "/users", "/users/x/token"] + [
    f"/jobs/ID/{what}" for what in ("heartbeat", "completed", "failed", "interrupted")
]
REPORTED: dict[str, list[str]] = {
    "heartbeat": ["progress", "checkpoint", "attempt"],
    "completed": ["bytes_in", "bytes_out", "compute_s", "progress", "checkpoint", "log_tail"],
    "failed": ["exit_code", "signal", "reason", "detail", "log_tail", "compute_s"],
    "interrupted": ["reason", "progress", "checkpoint"],
}
PARTS: dict[str, tuple[str, ...]] = {
    "progress": ("progress", "step", "total", "message"),
    "checkpoint": ("stored", "files", "bytes"),
}


@pytest.mark.parametrize("path", POSTS)
async def test_no_body_breaks_a_route(api: Api, admin: Api, path: str) -> None:
    """Broken, deep, huge, not UTF-8: a 4xx, or a job like any other."""
    job = await api.submit("hostile")
    caller = admin if path.startswith("/users") else api

    for body in BODIES:
        answer = await caller.call("POST", path.replace("ID", job["id"]), content=body)
        assert answer.status < 500, (path, body[:80], answer)


async def test_no_value_of_any_field_breaks_a_submission(api: Api) -> None:
    """Every field with every odd value; what is accepted can be read and claimed."""
    accepted = 0
    for name in JobSpec.__struct_fields__:
        for value in ODD:
            answer = await api.post("/jobs", {"command": "x", "container_group_id": GROUP, name: value})
            assert answer.status in {202, 400}, (name, value, answer)
            if answer.status == 202:
                accepted += 1
                assert await api.job(answer.body["id"]) == answer.body
                await _can_be_worked_on(api, answer.body["id"], answer.body["container_group_id"])

    assert accepted > 30


async def _can_be_worked_on(api: Api, job_id: str, group: str) -> None:
    claimed = await api.claim("m1", group)
    if claimed is not None:
        assert claimed["id"] == job_id
        answer = await api.report(job_id, "failed", "m1", attempt=1, exit_code=1)
        assert answer.status == 202
        await api.delete(f"/jobs/{job_id}")


async def test_no_value_of_a_nested_field_breaks_a_submission(api: Api) -> None:
    """Rules of sync and of retrying, labels, environments."""
    rule = {"bucket": "b", "prefix": "p", "local_path": "d", "direction": "download"}
    names = (*rule, "pattern", "kind", "mode")
    for value in ODD:
        rules: list[dict[str, Any]] = [{"sync": {"before": [{**rule, name: value}]}} for name in names]
        for fields in (
            *rules,
            {"sync": {"before": value}}, {"sync": {"during": [value]}}, {"environment": {"A": value}},
            {"environment": {str(value): "x"}}, {"labels": {"l": value}}, {"arguments": [value]},
            {"retry_rules": [value]}, {"retry_rules": [{"exit_codes": value, "action": "fail"}]},
            {"retry_rules": [{"exit_codes": [value], "action": "fail"}]},
        ):  # fmt: skip
            answer = await api.post("/jobs", {"command": "x", "container_group_id": "nested", **fields})
            assert answer.status in {202, 400}, (fields, answer)


@pytest.mark.parametrize("report", REPORTED)
async def test_no_value_of_any_field_breaks_a_report(api: Api, report: str) -> None:
    """And what a report leaves behind can be read."""
    for name in REPORTED[report]:
        for value in _values(name):
            job = await api.submit("reported")
            await api.claim("m1", "reported")
            answer = await api.report(job["id"], report, "m1", **_fields(name, value))
            assert answer.status < 500, (name, value, answer)
            if answer.status < 400:
                await api.job(job["id"])
                assert (await api.get(f"/jobs/{job['id']}/attempts")).status == 200
            await api.delete(f"/jobs/{job['id']}")


def _values(name: str) -> list[Any]:
    nested: list[Any] = [{part: odd} for part in PARTS.get(name, ()) for odd in ODD]
    return [*ODD, *nested]


def _fields(name: str, value: Any) -> dict[str, Any]:
    return {"attempt": 1, name: value}


ADDRESSES = [
    "/work?machine_id=%00&container_group_id=%ff%fe", "/work?machine_id=m&container_group_id=g&wait=1e999",
    "/work?machine_id=m&container_group_id=g&wait=%00", "/work?&&==&&=x", "/work?machine_id",
    "/work?machine_id[]=1&container_group_id[a]=2", "/work?machine_id=a&machine_id=b&container_group_id=g",
    "/jobs?page=%00", "/jobs?page=9223372036854775808", "/jobs?page=-9223372036854775809",
    "/jobs?container_group_id=%00", "/jobs?container_group_id=" + "g" * 20_000, "/jobs?" + "a=b&" * 5000,
    "/jobs?asc=true%0a", "/jobs?status=%F0%9F%92%A9", "/jobs/%00", "/jobs/%ff%fe", "/jobs/" + "x" * 20_000,
    "/jobs/%2e%2e%2f", "/jobs/a%2fb", "/jobs/%0d%0aX:1", "/jobs/x/signal?attempt=0&machine_id=m",
    "/jobs/x/signal?attempt=99999999999999999999&machine_id=m", "/%00", "/%", "/%zz", "/jobs/;/attempts",
    "/jobs/%F0%9F%92%A9/events", "/users/me?" + "x" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("path", ADDRESSES, ids=range(len(ADDRESSES)))
async def test_no_address_breaks_the_server(api: Api, path: str) -> None:
    """Strange queries, strange paths, long ones."""
    answer = await api.get(path)

    assert answer.status < 500


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "PROPFIND", "DELETE", "POST"])
@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/x", "/work", "/docs", "/openapi.json", "/livez"])
async def test_no_method_breaks_a_route(api: Api, method: str, path: str) -> None:
    """It is not there, or it does what it says."""
    assert (await api.call(method, path)).status < 500


_POST = b"POST /jobs HTTP/1.1\r\nHost: x\r\n"
_GET = b"GET /jobs HTTP/1.1\r\nHost: x\r\n"
RAW = {
    "a negative length": _POST + b"Content-Length: -1\r\n\r\n",
    "a length that is none": _POST + b"Content-Length: ten\r\n\r\n",
    "two lengths": _POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "length and chunks": _POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    "a huge length": _POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "a broken chunk": _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no protocol": b"hello\r\n\r\n",
    "raw bytes in the path": b"GET /jobs/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NUL in a header": _GET + b"X-Kelpie-Key: a\0b\r\n\r\n",
    "raw bytes in the key": _GET + b"X-Kelpie-Key: \xff\xfe\r\n\r\n",
    "raw bytes in the bearer": _GET + b"Authorization: Bearer \xff\r\n\r\n",
    "an absolute address": b"GET http://elsewhere/jobs HTTP/1.1\r\nHost: x\r\n\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "an upgrade": _GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "a long header": _GET + b"X-Kelpie-Key: " + b"k" * 200_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("content", RAW.values(), ids=RAW.keys())
async def test_no_broken_request_breaks_the_server(api: Api, content: bytes) -> None:
    """It is refused, or its connection closed."""
    answer = await _send_raw(api.url, content)

    assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert (await api.get("/livez")).status == 200


async def _send_raw(url: str, content: bytes) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(content)
        writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_half_a_body_is_no_body(api: Api) -> None:
    """A client that goes away in the middle submits nothing and completes nothing."""
    job = await api.submit("cut")
    await api.claim("m1", "cut")
    report = {"machine_id": "m1", "container_group_id": "cut", "attempt": 1}

    await _cut_off(api, "/jobs", {"command": "x", "container_group_id": "cut"})
    await _cut_off(api, f"/jobs/{job['id']}/completed", report)

    (only,) = (await api.get("/jobs?container_group_id=cut")).body["jobs"]
    assert (only["id"], only["status"]) == (job["id"], "running")


async def _cut_off(api: Api, path: str, body: dict[str, Any]) -> None:
    parts = urlsplit(api.url)
    content = json.dumps(body)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Kelpie-Key: {api.key}\r\n"
        f"Content-Length: {len(content) + 9}\r\n\r\n{content}".encode()
    )
    writer.write_eof()
    # The server has dealt with it once it has closed the connection.
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()


async def test_a_large_report_in_small_pieces_does_not_hold_up_the_others(api: Api) -> None:
    """Putting it together takes time in proportion to its size."""
    job = await api.submit("pieces")
    await api.claim("m1", "pieces")

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"machine_id":"m1","container_group_id":"pieces","attempt":1,"log_tail":"'
        for _ in range(400):
            yield b"x" * 2000
        yield b'"}'

    answer = await api.call("POST", f"/jobs/{job['id']}/completed", content=pieces())

    assert answer.status == 200
    (attempt,) = (await api.get(f"/jobs/{job['id']}/attempts")).body["attempts"]
    assert attempt["log_tail"] == "x" * 800_000
