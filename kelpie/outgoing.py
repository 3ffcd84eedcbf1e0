"""The one HTTP client for addresses that users name: it reaches nothing inside the server's own network.

The address is checked on the socket that is about to connect, the only place
that neither a literal IP in an odd notation nor a DNS name that changes its
mind gets around. Whom to send what is for others to know.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from yarl import URL

from kelpie.errors import KelpieError

_WITHIN_S = 10.0
_ANSWER_BYTES = 4096
_LOOKUPS = 16
_SCHEME = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9+.-]*):")
_MESSAGE = 300

# What the standard library calls global, and yet leads to the inside.
_INSIDE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # NAT64, local use
        "2002::/16",  # 6to4
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's host, as seen by its machines
    )
)


class Answer(Struct, frozen=True, kw_only=True):
    """A status, and the beginning of the body as text."""

    status: int
    body: str


class NotSent(KelpieError):
    """There was no answer; `is_hopeless` when there never can be."""

    code = "not-sent"
    title = "Not Sent"

    def __init__(self, message: str, *, is_hopeless: bool = False) -> None:
        super().__init__(message)
        self.is_hopeless = is_hopeless


class _Refused(OSError):
    """The address is one that users may not reach."""


class Outgoing:
    """The client; use it as a context manager. `resolver` replaces the system's, for tests."""

    def __init__(self, *, allow_private: bool, resolver: AbstractResolver | None = None) -> None:
        self._allow_private = allow_private
        self._resolver = resolver or _Resolver()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            socket_factory=self._socket,
            use_dns_cache=False,
            # A connection that is kept would outlive the check of its address.
            force_close=True,
            limit=0,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_WITHIN_S),
            trust_env=False,
            # A small answer must not become a large one.
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
        # The session closes only a resolver that it made itself.
        await self._resolver.close()

    async def post(self, url: str, content: bytes, headers: dict[str, str]) -> Answer:
        """POST once, following no redirect; raises NotSent when there is no answer within 10 s."""
        if self._session is None:
            raise RuntimeError("Use it as `async with Outgoing(...) as outgoing`.")
        try:
            target = URL(url)
        except ValueError as error:
            raise NotSent(f"This is no URL: {error}", is_hopeless=True) from error
        if target.scheme not in {"http", "https"} or not target.host:
            raise NotSent("This is no http or https URL.", is_hopeless=True)
        try:
            async with self._session.post(
                target, data=content, headers=headers, allow_redirects=False
            ) as response:
                return Answer(status=response.status, body=await _beginning(response))
        except TimeoutError as error:
            raise NotSent(f"No answer within {_WITHIN_S:g} s.") from error
        except aiohttp.InvalidURL as error:
            raise NotSent(f"This is no URL: {error}", is_hopeless=True) from error
        except aiohttp.ClientConnectorError as error:
            raise NotSent(_cause(error)[:_MESSAGE]) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotSent((str(error) or type(error).__name__)[:_MESSAGE]) from error

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, target = address
        if not self._allow_private and not is_outside(target[0]):
            message = f"{target[0]} is a private, local or otherwise reserved address, and refused"
            raise _Refused(errno.EACCES, message)
        return socket.socket(family, kind, protocol)


def url_problem(url: str) -> str | None:
    """Say why a URL can never be delivered to, or None.

    Only another scheme is: the original takes any text, and text without a
    scheme is found out when it is sent.
    """
    scheme = _SCHEME.match(url)
    if scheme is not None and scheme[1].lower() not in {"http", "https"}:
        return f"Expected a URL that begins with http:// or https://, got the scheme {scheme[1]!r}"
    return None


def is_outside(address: str) -> bool:
    """Whether an IP address is one of the public internet's."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    return not any(ip in network for network in _INSIDE)


def _cause(error: aiohttp.ClientConnectorError) -> str:
    return f"Cannot connect: {error.os_error.strerror or error.os_error}"


async def _beginning(response: aiohttp.ClientResponse) -> str:
    content = b""
    while len(content) < _ANSWER_BYTES:
        chunk = await response.content.read(_ANSWER_BYTES - len(content))
        if not chunk:
            break
        content += chunk
    return content.decode(errors="replace")


class _Resolver(AbstractResolver):
    """The system's resolver, on threads of its own: a name server that hangs holds up nobody else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="kelpie-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        def look_up() -> list[tuple[Any, ...]]:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)

        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host, host=entry[4][0], port=entry[4][1], family=entry[0], proto=entry[2], flags=0
            )
            for entry in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
