"""`kelpie serve`: the app under uvicorn, inside this very process.

Killing the command kills the server. (A server that forks would leave its
child behind, and was measured to be no faster under this framework.)
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import structlog
import uvicorn
import uvloop
from litestar import Litestar
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kelpie import __version__
from kelpie.config import ServerConfig
from kelpie.errors import ConfigError
from kelpie.logs import configure_logs
from kelpie.server.app import Application
from kelpie.store.database import SQLITE_VERSION, sqlite_is_fixed
from kelpie.store.lock import ServerAddress

log = structlog.get_logger()
_BACKLOG = 2048
_HEADERS_WITHIN_S = 30.0
_FINISH_WITHIN_S = 10


def serve(config: ServerConfig, *, extend: Callable[[Litestar], None] | None = None) -> int:
    """Run the server until SIGTERM or SIGINT; returns the exit code.

    `extend` may add routes (benchmarks do). Raises ConfigError when the port
    is taken and StoreError when the database cannot be used, each with what to do.
    """
    configure_logs(config.log_level)
    _raise_open_files()
    listener = _listen(config.host, config.port)
    with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(config, listener, extend))


async def _serve(
    config: ServerConfig, listener: socket.socket, extend: Callable[[Litestar], None] | None
) -> int:
    secret = secrets.token_urlsafe(32)
    failures: list[str] = []
    server: _Server | None = None

    def fail(why: str) -> None:
        failures.append(why)
        if server is not None:
            server.stop()

    application = Application(
        config, local_secret=secret, on_fatal=fail, on_first_key=lambda key: _show_key(key, config)
    )
    if extend is not None:
        extend(application.litestar)
    store = await application.open()
    url = _url(listener)
    store.database.lock.publish(ServerAddress(pid=os.getpid(), url=url, secret=secret))
    _announce(config, url)
    server = _Server(_uvicorn_config(application), application)
    try:
        await server.serve(sockets=[listener])
    finally:
        # Here and not in the lifespan, which a second signal cuts short.
        await application.close()
    if failures:
        log.error("server_stopped", reason=failures[0])
        return 1
    return 0


class _Server(uvicorn.Server):
    """uvicorn, answering those who wait before it waits for them."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self._application = application

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Shut down on SIGTERM and SIGINT, and exit 0: uvicorn would die of the signal once more."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Begin to shut down; a second time, do not wait for anybody."""
        self.force_exit = self.should_exit
        self._application.signals.close()
        self._application.feed.close()
        self.should_exit = True


class _Protocol(HttpToolsProtocol):
    """uvicorn's, but a connection on which headers never end is closed."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._deadline = self.loop.call_later(_HEADERS_WITHIN_S, transport.close)

    def on_message_begin(self) -> None:
        if self._deadline is None:
            # Another request on a connection that was kept.
            self._deadline = self.loop.call_later(_HEADERS_WITHIN_S, self.transport.close)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)


def _uvicorn_config(application: Application) -> uvicorn.Config:
    return uvicorn.Config(
        application.asgi,
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_FINISH_WITHIN_S,
        proxy_headers=False,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(f"The address {host!r} is not one of this machine's: {error.strerror}.") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Cannot listen on {host} port {port}: {error.strerror}. "
            "Stop what uses it, or choose another with --port."
        ) from error
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(config: ServerConfig, url: str) -> None:
    log.info(
        "serving",
        url=url,
        database=str(config.database.absolute()),
        version=__version__,
        sqlite=SQLITE_VERSION,
        sqlite_wal_fix=sqlite_is_fixed(),
        docs=f"{url}/docs",
    )
    if not config.behind_proxy and not _is_private(config.host):
        log.warning(
            "public_address_without_tls",
            host=config.host,
            advice="Keys travel in the clear. Put a TLS proxy in front and set behind_proxy = true.",
        )


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _show_key(key: str, config: ServerConfig) -> None:
    # Shown once and kept nowhere: only its hash is in the database.
    sys.stderr.write(
        f"\nThis database is new. Its admin key, shown only now:\n\n    {key}\n\n"
        f"Use it:  export KELPIE_API_KEY={key}\n"
        "Lost it? Make another with "
        f"`kelpie admin --database {config.database} key create admin --scope admin`.\n\n"
    )
    sys.stderr.flush()


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
