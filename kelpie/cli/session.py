"""How a command reaches the server, and how it finds the job a person means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from kelpie.config import client_config
from kelpie.contract import MAX_PAGE
from kelpie.errors import InvalidRequest, NotFound, Unauthorized

if TYPE_CHECKING:
    from kelpie.client import Client

PATIENCE_S = 5.0
"""How long a person at a prompt waits for a server that does not answer."""

SHORTEST_PREFIX = 4
"""An id may be shortened to this many characters where a mistake only shows the wrong job."""

CAREFUL_PREFIX = 8
"""The same where a mistake would end the wrong job."""

_FULL_ID = 32

_NO_KEY = (
    "No API key: set KELPIE_API_KEY (or api_key under [client] in kelpie.toml) to the key that"
    " `kelpie serve` printed on its first start, or make one with `kelpie admin key create`."
)


@asynccontextmanager
async def connect(*, patience_s: float = PATIENCE_S) -> AsyncIterator[Client]:
    """Open a client as the configuration says; raises ConfigError, and Unauthorized without a key."""
    config = client_config({})
    if not config.api_key:
        raise Unauthorized(_NO_KEY)
    # Imported here: aiohttp and stamina take longer to load than `kelpie submit --help` to answer.
    from kelpie.cli.retries import tell_retries
    from kelpie.client import Client

    tell_retries()
    async with Client(config.api_url, config.api_key, patience_s=patience_s) as client:
        yield client


async def resolve(client: Client, text: str, *, shortest: int = SHORTEST_PREFIX) -> str:
    """The id of the job that `text` names: an id, or the beginning of one recent job's id."""
    if len(text) >= _FULL_ID:
        return text
    if len(text) < shortest:
        raise InvalidRequest(f"`{text}` is too short for a job id: give at least {shortest} characters.")
    page = await client.jobs(page_size=MAX_PAGE)
    found = [job.id for job in page.jobs if job.id.startswith(text)]
    if not found:
        raise NotFound(f"None of your {MAX_PAGE} newest jobs has an id that begins with `{text}`.")
    if len(found) > 1:
        raise InvalidRequest(f"`{text}` could be any of these: " + ", ".join(found[:5]) + ".")
    return found[0]
