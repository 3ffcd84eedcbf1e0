"""`kelpie admin`: looking after the database on the server's own machine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import rich_click as click

from kelpie.cli.render import Form, output_options, print_lines, print_records
from kelpie.cli.text import tell
from kelpie.config import server_config
from kelpie.contract import NewToken, NewUser, Token, User
from kelpie.errors import ConfigError, Conflict, InvalidRequest

if TYPE_CHECKING:
    from kelpie.client import Client
    from kelpie.store.database import Database
    from kelpie.store.lock import ServerAddress

_Result = TypeVar("_Result")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LOCAL_PATIENCE_S = 5.0


@click.group()
@click.option("--database", metavar="PATH", help="The SQLite file (default: as `kelpie serve` would use).")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (default ./kelpie.toml).")
@click.pass_context
def admin(ctx: click.Context, *, database: str | None, config: Path | None) -> None:
    """Look after the server's database, on its machine, whether the server runs or not."""
    ctx.obj = server_config({"database": database}, file=config)


@admin.command()
@click.pass_context
def init(ctx: click.Context) -> None:
    """Make the database, with an admin whose key is printed once."""
    from kelpie.store.access import bootstrap
    from kelpie.store.administration import is_initialised

    path: Path = ctx.obj.database
    if is_initialised(path):
        raise Conflict(
            f"{path} is there already. For another key: kelpie admin key create admin --scope admin"
        )

    async def on_file(database: Database) -> str | None:
        return await bootstrap(database, ctx.obj.admin_key)

    key = asyncio.run(_write(path, on_file, _already_served, may_create=True))
    if key is None:
        tell(f"Made {path}. The admin's key is the one in KELPIE_ADMIN_KEY (or admin_key in kelpie.toml).")
    else:
        tell(f"Made {path}. The admin's key, shown only now:")
        print_lines([key])


@admin.group()
def user() -> None:
    """Users: who owns jobs."""


@user.command("add")
@click.argument("username")
@output_options("name")
@click.pass_context
def user_add(ctx: click.Context, *, username: str, output: Form, quiet: bool) -> None:
    """Add a user."""
    from kelpie.store import access

    if not username.strip():
        raise InvalidRequest("A user's name must not be empty.")

    async def on_file(database: Database) -> User:
        return await access.add_user(database, username)

    async def by_api(address: ServerAddress) -> User:
        async with _client(address) as client:
            return await client.add_user(NewUser(username=username))

    added = asyncio.run(_write(ctx.obj.database, on_file, by_api))
    print_records([added], "name" if quiet else output)
    tell(f"Added {username}. A key for them: kelpie admin key create {username}")


@user.command("list")
@output_options("table")
@click.pass_context
def user_list(ctx: click.Context, *, output: Form, quiet: bool) -> None:
    """List users."""
    from kelpie.store.administration import list_users

    print_records(list_users(ctx.obj.database), "name" if quiet else output)


@admin.group()
def key() -> None:
    """Keys: what users, workers and dashboards sign in with."""


@key.command("create")
@click.argument("username")
@click.option(
    "--scope",
    type=click.Choice(["admin", "user", "worker", "read"]),
    default="user",
    show_default=True,
    help="What the key may do. Machines of strangers get `worker`.",
)
@click.option("--group", "-g", metavar="ID", help="Bind the key to one container group.")
@click.option("--expires-in", metavar="SPAN", help="For example 12h, 30d or 8w (default: never).")
@click.option("--name", default="", help="What the key is for.")
@click.pass_context
def key_create(
    ctx: click.Context, *, username: str, scope: str, group: str | None, expires_in: str | None, name: str
) -> None:
    """Create a key for a user; it is printed once, and only its hash is kept."""
    from kelpie.store import access
    from kelpie.store.administration import find_user

    path: Path = ctx.obj.database
    owner = find_user(path, username)
    wanted = NewToken(
        scope=scope,  # type: ignore[arg-type]
        container_group_id=group,
        expires_in_s=None if expires_in is None else _seconds(expires_in),
        name=name,
    )

    async def on_file(database: Database) -> Token:
        return await access.create_key(database, owner.id, wanted)

    async def by_api(address: ServerAddress) -> Token:
        async with _client(address) as client:
            return await client.create_key(owner.id, wanted)

    made = asyncio.run(_write(path, on_file, by_api))
    tell(f"Key {made.id} ({scope}) for {owner.username}, shown only now:")
    print_lines([made.token])


@key.command("list")
@output_options("table")
@click.pass_context
def key_list(ctx: click.Context, *, output: Form, quiet: bool) -> None:
    """List keys, revoked ones too; never the keys themselves."""
    from kelpie.store.administration import list_keys

    print_records(list_keys(ctx.obj.database), "name" if quiet else output)


@key.command("revoke")
@click.argument("key_id")
@click.pass_context
def key_revoke(ctx: click.Context, *, key_id: str) -> None:
    """Revoke a key; it is refused at once."""
    from kelpie.store import access

    async def on_file(database: Database) -> None:
        caller = access.admin_caller(database)
        if caller is None:
            raise Conflict("This database has no admin. Make one: kelpie admin init")
        await access.revoke_key(database, caller, key_id)

    async def by_api(address: ServerAddress) -> None:
        async with _client(address) as client:
            await client.revoke_key(key_id)

    asyncio.run(_write(ctx.obj.database, on_file, by_api))
    tell(f"Revoked {key_id}.")


async def _write(
    path: Path,
    on_file: Callable[[Database], Awaitable[_Result]],
    by_api: Callable[[ServerAddress], Awaitable[_Result]],
    *,
    may_create: bool = False,
) -> _Result:
    from kelpie.store.administration import writing
    from kelpie.store.lock import ServerAddress

    async with writing(path, may_create=may_create) as found:
        if isinstance(found, ServerAddress):
            return await by_api(found)
        return await on_file(found)


async def _already_served(address: ServerAddress) -> str | None:
    raise Conflict(f"A server at {address.url} has this database open already.")


def _client(address: ServerAddress) -> Client:
    from kelpie.client import Client

    return Client(address.url, address.secret, patience_s=_LOCAL_PATIENCE_S)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)([smhdw])", text.strip())
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"--expires-in: expected a span such as 12h, 30d or 8w, got {text!r}.")
    return int(match[1]) * _UNITS[match[2]]
