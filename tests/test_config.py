"""Every setting of kelpie.toml.example is read, documented and refused when wrong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from kelpie.config import (
    SERVER_TABLES,
    TABLES,
    ClientConfig,
    ServerConfig,
    WorkerConfig,
    client_config,
    environment_names,
    server_config,
    worker_config,
)
from kelpie.errors import ConfigError

EXAMPLE = Path(__file__).parents[1] / "kelpie.toml.example"
KINDS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("", ServerConfig),
    ("worker", WorkerConfig),
    ("client", ClientConfig),
)


def uncommented() -> dict[str, object]:
    """Read the example with its commented keys switched on."""
    text = re.sub(r"(?m)^# (\w+ = .*)$", r"\1", EXAMPLE.read_text())
    return tomllib.loads(text)


def server_settings(content: dict[str, object]) -> set[str]:
    """Name the settings of the server: its top level, and `table_key` for those in tables of its own."""
    top = {name for name in content if name not in {*TABLES, *SERVER_TABLES}}
    for table in SERVER_TABLES:
        section = content[table]
        assert isinstance(section, dict)
        top |= {f"{table}_{name}" for name in section}
    return top


@pytest.mark.parametrize(("table", "kind"), KINDS)
def test_the_example_shows_every_setting_and_no_other(table: str, kind: type[msgspec.Struct]) -> None:
    """A key that is not in the example cannot be found, one that is too many is refused."""
    content = uncommented()
    shown = content[table] if table else server_settings(content)
    assert isinstance(shown, dict | set)
    assert set(shown) == set(kind.__struct_fields__)


def test_the_example_as_it_stands_gives_the_defaults() -> None:
    """Copying the file changes nothing."""
    assert server_config({}, file=EXAMPLE, environment={}) == server_config({}, environment={})
    assert worker_config({}, file=EXAMPLE, environment={}) == worker_config({}, environment={})
    assert client_config({}, file=EXAMPLE, environment={}) == client_config({}, environment={})


@pytest.mark.parametrize(("table", "kind"), KINDS)
def test_the_example_names_the_environment_variable_of_every_setting(
    table: str, kind: type[msgspec.Struct]
) -> None:
    """Whoever configures a container finds the name in the same place."""
    text = EXAMPLE.read_text()
    del table
    for field in kind.__struct_fields__:
        for name in environment_names(kind, field):
            assert name in text, f"{name} is not documented"


def test_flags_win_over_environment_and_environment_over_file(tmp_path: Path) -> None:
    """The nearest place wins."""
    file = tmp_path / "kelpie.toml"
    file.write_text('port = 1001\nhost = "file"\ndatabase = "file.db"\n')
    environment = {"KELPIE_PORT": "1002", "KELPIE_HOST": "environment"}

    config = server_config({"port": "1003"}, file=file, environment=environment)

    assert (config.port, config.host, config.database) == (1003, "environment", Path("file.db"))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"KELPIE_PORT": "many"}, "KELPIE_PORT: expected int, got 'many'."),
        ({"KELPIE_PORT": "70000"}, "KELPIE_PORT: expected int <= 65535, got '70000'."),
        ({"KELPIE_LOG_LEVEL": "loud"}, "KELPIE_LOG_LEVEL: expected one of debug, info, warning, error"),
        ({"KELPIE_ADMIN_KEY": "secret"}, "KELPIE_ADMIN_KEY: expected str of length >= 16, got (not shown)."),
        ({"KELPIE_BAN_WINDOW_S": "-1"}, "KELPIE_BAN_WINDOW_S: expected float >= 0.0, got '-1'."),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_was_expected(
    environment: dict[str, str], message: str
) -> None:
    """A typo is found at start, not at night; a secret is not repeated."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        server_config({}, environment=environment)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("prot = 1", "`prot` is not a setting. Did you mean `port`?"),
        ("[worker]\napi_ulr = 'x'", "[worker] `api_ulr` is not a setting. Did you mean `api_url`?"),
        ("zzz = 1", "See kelpie.toml.example"),
        ("port = ", "is not valid TOML"),
        ("worker = 3", "`worker` must be a table"),
        ("webhook = 3", "`webhook` must be a table"),
        ("[webhook]\nallow_privat = true", "[webhook] `allow_privat` is not a setting. Did you mean"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    tmp_path: Path, content: str, hint: str
) -> None:
    """A misspelt key must not silently mean the default."""
    file = tmp_path / "kelpie.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(hint)):
        server_config({}, file=file, environment={})


def test_a_table_of_the_server_s_is_read_and_its_variable_wins(tmp_path: Path) -> None:
    """`[webhook] allow_private` and KELPIE_WEBHOOK_ALLOW_PRIVATE are the same setting."""
    file = tmp_path / "kelpie.toml"
    file.write_text("[webhook]\nallow_private = true\n")

    assert server_config({}, file=file, environment={}).webhook_allow_private
    environment = {"KELPIE_WEBHOOK_ALLOW_PRIVATE": "false"}
    assert not server_config({}, file=file, environment=environment).webhook_allow_private


def test_a_missing_file_that_was_named_is_an_error() -> None:
    """Only the default file may be absent."""
    with pytest.raises(ConfigError, match="cannot be read"):
        server_config({}, environment={"KELPIE_CONFIG": "/nowhere/kelpie.toml"})
