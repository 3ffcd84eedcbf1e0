"""`kelpie serve` and `kelpie worker` that cannot start: one sentence with what to do, and a non-zero exit."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest

from tests.cli.scripted import Kelpie
from tests.kelpie_server import ServerProcess


@pytest.fixture
def alone(tmp_path: Path) -> Kelpie:
    """The command in an empty directory."""
    return Kelpie(tmp_path, {})


async def test_a_port_in_use_is_named_with_the_way_out(alone: Kelpie) -> None:
    """The most common mistake of all."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = await alone("serve", "--port", str(port))
    assert refused.code != 0
    assert f"port {port}" in refused.err
    assert "--port" in refused.err
    assert len(refused.err.strip().splitlines()) == 1


async def test_a_second_server_on_one_database_is_refused_and_the_first_named(
    fresh_server: ServerProcess,
) -> None:
    """Two writers would be the end of it."""
    refused = await Kelpie(fresh_server.directory, {})("serve", "--port", "0")
    assert refused.code == 1
    assert f"process {fresh_server.pid} at {fresh_server.url}" in refused.err


@pytest.mark.parametrize("content", [b"this is not a database, but long enough to be read as one" * 40])
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(
    alone: Kelpie, tmp_path: Path, content: bytes
) -> None:
    """A wrong path must not cost a file."""
    (tmp_path / "kelpie.db").write_bytes(content)
    refused = await alone("serve", "--port", "0")
    assert refused.code == 1
    assert "not a Kelpie database" in refused.err
    assert (tmp_path / "kelpie.db").read_bytes() == content


async def test_a_database_of_another_program_is_refused_and_left_as_it_is(
    alone: Kelpie, tmp_path: Path
) -> None:
    """Tables of somebody else are none of ours."""
    with sqlite3.connect(tmp_path / "kelpie.db") as other:
        other.execute("CREATE TABLE jobs (a)")
    other.close()
    refused = await alone("serve", "--port", "0")
    assert refused.code == 1
    assert "Traceback" not in refused.err
    with sqlite3.connect(tmp_path / "kelpie.db") as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("jobs",)]
    other.close()


async def test_a_database_from_a_newer_kelpie_is_refused(alone: Kelpie, tmp_path: Path) -> None:
    """Going back a version must not guess."""
    await alone("admin", "init")
    with sqlite3.connect(tmp_path / "kelpie.db") as database:
        database.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('kelpie', '9999', '')"
        )
    database.close()
    refused = await alone("serve", "--port", "0")
    assert refused.code == 1
    assert "newer Kelpie" in refused.err


async def test_a_directory_that_is_not_there_is_named(alone: Kelpie) -> None:
    """The path in the message is the one to make."""
    refused = await alone("serve", "--port", "0", "--database", "missing/kelpie.db")
    assert refused.code == 1
    assert "missing/kelpie.db" in refused.err
    assert "No such file or directory" in refused.err


async def test_a_directory_that_cannot_be_written_is_named(alone: Kelpie) -> None:
    """Containers run as somebody else than one thinks; nobody, root included, makes files in /sys."""
    refused = await alone("serve", "--port", "0", "--database", "/sys/kelpie.db")
    assert refused.code == 1
    assert "/sys/kelpie.db cannot be opened" in refused.err


async def test_a_new_server_prints_its_admin_key_once(tmp_path: Path) -> None:
    """The key on the first start works, and the second start prints none."""
    with ServerProcess(tmp_path, environment={"KELPIE_ADMIN_KEY": ""}) as server:
        first = server.log.read_text()
        key = next(word for word in first.split() if word.startswith("klp_"))
        server.admin_key = key
        server.log.write_text("")
        server.restart()
        assert server.call("GET", "/users/me")["username"] == "admin"
        assert key not in server.log.read_text()


async def test_a_changed_admin_key_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """Rotating KELPIE_ADMIN_KEY is a restart, and the old one is out."""
    with ServerProcess(tmp_path) as server:
        old = server.admin_key
    with ServerProcess(tmp_path, environment={"KELPIE_ADMIN_KEY": "another-admin-key"}) as server:
        server.admin_key = "another-admin-key"
        assert server.call("GET", "/users/me")["username"] == "admin"
        refused = await Kelpie(tmp_path, {"KELPIE_API_URL": server.url, "KELPIE_API_KEY": old})("jobs")
    assert refused.code == 4


async def test_check_validates_and_starts_nothing(alone: Kelpie, tmp_path: Path) -> None:
    """A deployment script can ask first."""
    fine = await alone("serve", "--check")
    wrong = await alone("serve", "--check", "--port", "x")
    assert fine.code == 0
    assert wrong.code == 2
    assert "--port: expected int, got 'x'" in wrong.err
    assert not (tmp_path / "kelpie.db").exists()


async def test_a_worker_with_a_wrong_key_ends_with_one_sentence(fresh_server: ServerProcess) -> None:
    """It would ask in vain for ever."""
    variables = {"KELPIE_API_URL": fresh_server.url, "KELPIE_API_KEY": "klp_wrong"}
    refused = await Kelpie(fresh_server.directory, variables)("worker")
    assert refused.code == 4
    assert "Invalid API Key" in refused.err
    assert "KELPIE_API_KEY" in refused.err
    assert "Traceback" not in refused.err
