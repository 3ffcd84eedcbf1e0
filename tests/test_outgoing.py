"""Where the client for user-given URLs goes, and where it never goes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer

from kelpie.outgoing import NotSent, Outgoing, is_outside, url_problem


class Names(AbstractResolver):
    """A resolver that gives one answer after the other, and the last one for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Answer, whatever the name."""
        del family
        address = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None:
        """Hold nothing."""


class Inside:
    """A server on loopback that must not be reached, and counts who did."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        app = web.Application()
        app.router.add_post("/", self._answer)
        app.router.add_post("/redirect", self._redirect)
        app.router.add_post("/long", self._long)
        self.server = TestServer(app)

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        response = web.Response(text="hello")
        response.set_cookie("track", "me")
        return response

    async def _redirect(self, _: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/")

    async def _long(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * 1000)
        return response

    def url(self, host: str = "127.0.0.1", path: str = "/") -> str:
        """Name this server by any of its addresses."""
        return f"http://{host}:{self.server.port}{path}"


@pytest_asyncio.fixture
async def inside() -> AsyncIterator[Inside]:
    """A server on loopback."""
    server = Inside()
    await server.server.start_server()
    yield server
    await server.server.close()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001",
        "0.0.0.0", "0", "127.255.255.254", "localhost", "LOCALHOST.", "[::1]", "[::]",
        "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "①②⑦.0.0.1", "127。0。0。1",
    ],
)  # fmt: skip
async def test_an_address_inside_is_refused_in_every_notation(inside: Inside, host: str) -> None:
    """By the check of the socket's address, or before that as no address at all."""
    async with Outgoing(allow_private=False) as outgoing:
        with pytest.raises(NotSent, match=r"refused|canonical|not known"):
            await outgoing.post(inside.url(host), b"{}", {})

    assert not inside.requests


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00:ec2::254"])
async def test_a_name_that_resolves_to_the_inside_is_refused(inside: Inside, address: str) -> None:
    """A public name proves nothing."""
    async with Outgoing(allow_private=False, resolver=Names(address)) as outgoing:
        with pytest.raises(NotSent, match="refused"):
            await outgoing.post(inside.url("hook.example.com"), b"{}", {})

    assert not inside.requests


async def test_a_name_that_changes_its_mind_is_refused(inside: Inside) -> None:
    """The answer that is connected to is the one that is checked, every time anew."""
    async with Outgoing(allow_private=False, resolver=Names("192.0.2.1", "127.0.0.1")) as outgoing:
        for _ in range(3):
            with pytest.raises(NotSent, match="refused"):
                await outgoing.post(inside.url("rebind.example.com"), b"{}", {})

    assert not inside.requests


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "127.0.0.1", "0.0.0.0",
        "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
        "192.88.99.1", "168.63.129.16", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
        "ff0e::1", "::ffff:8.8.8.8", "::ffff:10.0.0.1", "64:ff9b::808:808", "64:ff9b:1::1",
        "2002:808:808::1", "2001:0:1::1", "2001:db8::1", "::8.8.8.8", "not an address",
    ],
)  # fmt: skip
def test_an_address_that_is_not_plainly_public_is_inside(address: str) -> None:
    """Private, shared, loopback, link-local, multicast, reserved, translated and mapped ones."""
    assert not is_outside(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"])
def test_a_public_address_is_outside(address: str) -> None:
    """Or no webhook would ever arrive."""
    assert is_outside(address)


async def test_a_private_address_is_reached_when_the_settings_allow_it(inside: Inside) -> None:
    """A receiver beside the server is what many people have."""
    async with Outgoing(allow_private=True) as outgoing:
        answer = await outgoing.post(inside.url(), b"{}", {"X-Test": "1"})

    assert (answer.status, answer.body) == (200, "hello")
    assert inside.requests[0].headers["X-Test"] == "1"


async def test_redirects_are_not_followed(inside: Inside) -> None:
    """They lead where nobody looked."""
    async with Outgoing(allow_private=True) as outgoing:
        assert (await outgoing.post(inside.url(path="/redirect"), b"{}", {})).status == 307

    assert not inside.requests


async def test_no_cookie_is_kept_and_no_proxy_is_used(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receivers cannot recognize the server, and the environment cannot lead requests astray."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with Outgoing(allow_private=True) as outgoing:
        await outgoing.post(inside.url(), b"{}", {})
        await outgoing.post(inside.url(), b"{}", {})

    assert [request.headers.get("Cookie") for request in inside.requests] == [None, None]


async def test_only_the_beginning_of_an_answer_is_read(inside: Inside) -> None:
    """A receiver cannot fill the server's memory."""
    async with Outgoing(allow_private=True) as outgoing:
        assert (await outgoing.post(inside.url(path="/long"), b"{}", {})).body == "x" * 4096


@pytest.mark.parametrize("url", ["not even a url", "ftp://example.com/", "http://", "http://[::1", "/hook"])
async def test_what_is_no_web_address_is_hopeless(url: str) -> None:
    """Trying again cannot help."""
    async with Outgoing(allow_private=True) as outgoing:
        with pytest.raises(NotSent) as caught:
            await outgoing.post(url, b"{}", {})

    assert caught.value.is_hopeless


async def test_a_receiver_that_is_away_is_not_hopeless(unused_port: int) -> None:
    """It may come back."""
    async with Outgoing(allow_private=True) as outgoing:
        with pytest.raises(NotSent) as caught:
            await outgoing.post(f"http://127.0.0.1:{unused_port}/", b"{}", {})

    assert not caught.value.is_hopeless


async def test_a_receiver_that_says_nothing_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit, which is short here."""
    monkeypatch.setattr("kelpie.outgoing._WITHIN_S", 0.05)

    is_over = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        is_over.set()

    server: Any = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server, Outgoing(allow_private=True) as outgoing:
        with pytest.raises(NotSent, match="No answer within"):
            await outgoing.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", b"{}", {})
        await is_over.wait()


@pytest.fixture
def unused_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.parametrize("url", ["ftp://x/", "file:///etc/passwd", "javascript:alert(1)", "localhost:80/x"])
def test_another_scheme_is_a_problem_from_the_start(url: str) -> None:
    """It can never be delivered to."""
    assert "http:// or https://" in (url_problem(url) or "")


@pytest.mark.parametrize("url", ["http://x/", "HTTPS://x/", "", "not even a url"])
def test_anything_the_original_takes_without_a_scheme_is_taken(url: str) -> None:
    """It never looked."""
    assert url_problem(url) is None
