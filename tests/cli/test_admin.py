"""`kelpie admin` on a real database, with and without a server beside it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.cli.scripted import Kelpie
from tests.kelpie_server import ServerProcess


@pytest.fixture
def alone(tmp_path: Path) -> Kelpie:
    """The command in a directory where no server runs."""
    return Kelpie(tmp_path, {})


def beside(server: ServerProcess) -> Kelpie:
    """The command in the directory of a running server."""
    return Kelpie(server.directory, {})


async def test_init_makes_a_database_and_prints_a_key_that_works(alone: Kelpie, tmp_path: Path) -> None:
    """The key on stdout signs in at the server that is started next."""
    made = await alone("admin", "init")
    key = made.out.strip()

    with ServerProcess(tmp_path, environment={"KELPIE_ADMIN_KEY": ""}) as server:
        server.admin_key = key
        assert server.call("GET", "/users/me")["username"] == "admin"
    assert made.code == 0
    assert key.startswith("klp_")
    assert "shown only now" in made.err


async def test_init_leaves_a_database_that_is_there_alone(alone: Kelpie) -> None:
    """A second init changes nothing and says how to get another key."""
    await alone("admin", "init")
    before = await alone("admin", "key", "list", "-o", "json")

    again = await alone("admin", "init")

    assert again.code == 5
    assert "kelpie admin key create admin" in again.err
    assert (await alone("admin", "key", "list", "-o", "json")).out == before.out


async def test_the_database_is_readable_by_its_owner_only(alone: Kelpie, tmp_path: Path) -> None:
    """Jobs carry secrets in their environment."""
    await alone("admin", "init")
    for name in ("kelpie.db", "kelpie.db.lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("is_running", [False, True])
async def test_users_and_keys_can_be_made_whether_the_server_runs_or_not(
    *, is_running: bool, alone: Kelpie, fresh_server: ServerProcess
) -> None:
    """`docker exec ... kelpie admin key create` works on day one, and so does a stopped server."""
    if not is_running:
        fresh_server.stop()
    kelpie = beside(fresh_server)

    added = await kelpie("admin", "user", "add", "alice")
    created = await kelpie("admin", "key", "create", "alice", "--scope", "worker", "-g", "gpu", "--name", "n")

    if not is_running:
        fresh_server.start()
    me = fresh_server.call("GET", "/users/me", key=created.out.strip())
    listed = json.loads((await kelpie("admin", "key", "list", "-o", "json")).out)
    assert me == {"id": added.out.strip(), "username": "alice", "created": me["created"]}
    newest = [listed[-1][field] for field in ("username", "scope", "container_group_id", "name")]
    assert newest == ["alice", "worker", "gpu", "n"]
    assert alone.directory == fresh_server.directory


@pytest.mark.parametrize("is_running", [False, True])
async def test_a_revoked_key_is_refused_at_once(*, is_running: bool, fresh_server: ServerProcess) -> None:
    """A key that leaked must stop working before the answer is read."""
    kelpie = beside(fresh_server)
    await kelpie("admin", "user", "add", "alice")
    key = (await kelpie("admin", "key", "create", "alice")).out.strip()
    key_id = (await kelpie("admin", "key", "list", "-q")).out.split()[-1]
    assert fresh_server.call("GET", "/users/me", key=key)["username"] == "alice"
    if not is_running:
        fresh_server.stop()

    revoked = await kelpie("admin", "key", "revoke", key_id)

    if not is_running:
        fresh_server.start()
    asking = Kelpie(fresh_server.directory, {"KELPIE_API_URL": fresh_server.url, "KELPIE_API_KEY": key})
    assert revoked.code == 0
    assert (await asking("jobs")).code == 4


async def test_a_key_in_the_database_is_only_a_hash(alone: Kelpie, tmp_path: Path) -> None:
    """Who reads a backup cannot sign in with it."""
    key = (await alone("admin", "init")).out.strip()
    assert key.encode() not in (tmp_path / "kelpie.db").read_bytes()


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (("user", "add", "admin"), 2, "User exists"),
        (("user", "add", " "), 2, "must not be empty"),
        (("key", "create", "nobody"), 3, "There is no user 'nobody'"),
        (("key", "create", "admin", "--expires-in", "soon"), 2, "expected a span such as 12h"),
        (("key", "revoke", "no-such-key"), 3, "Key not found"),
    ],
)
async def test_a_mistake_gets_a_sentence(
    alone: Kelpie, command: tuple[str, ...], code: int, message: str
) -> None:
    """Each refusal says what was wrong."""
    await alone("admin", "init")
    refused = await alone("admin", *command)
    assert refused.code == code
    assert message in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.parametrize(
    "command",
    [
        ("user", "list"),
        ("user", "add", "bob"),
        ("key", "list"),
        ("key", "create", "admin"),
        ("key", "revoke", "x"),
    ],
)
async def test_without_a_database_the_command_says_how_to_make_one(
    alone: Kelpie, command: tuple[str, ...], tmp_path: Path
) -> None:
    """Looking must not make an empty database by accident."""
    refused = await alone("admin", *command)
    assert refused.code == 1
    assert "kelpie admin init" in refused.err
    assert not (tmp_path / "kelpie.db").exists()
