"""The real server with one more route that does nothing: the yardstick of the other benchmarks."""

from __future__ import annotations

from litestar import Litestar, post

from kelpie.config import server_config
from kelpie.contract import Message
from kelpie.server.run import serve
from kelpie.server.services import Request


@post("/noop", status_code=200)
async def noop(request: Request) -> Message:
    """Read the body, as every POST does, and answer."""
    await request.body()
    return Message(message="ok")


def add_noop(app: Litestar) -> None:
    """Add the route."""
    app.register(noop)


if __name__ == "__main__":
    raise SystemExit(serve(server_config({}), extend=add_noop))
