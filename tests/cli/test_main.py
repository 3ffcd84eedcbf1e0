"""What every command shares: quick help, exit codes, and no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.scripted import Coordinator, Kelpie

HEAVY = (
    "litestar",
    "aiohttp",
    "aiobotocore",
    "aiosqlite",
    "sqlite3",
    "uvicorn",
    "watchfiles",
    "stamina",
    "structlog",
    "asyncio",
)


def test_help_imports_none_of_the_heavy_modules() -> None:
    """`kelpie --help` answers at once because it loads only what prints it."""
    program = (
        "import sys; sys.argv = ['kelpie', '--help']\n"
        "from kelpie.cli.main import run\n"
        "try:\n    run()\nfinally:\n    print(*sys.modules, sep='\\n', file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert set(done.stderr.split()).isdisjoint(HEAVY)


async def test_help_lists_every_command(kelpie: Kelpie) -> None:
    """The stubs of lazy commands are listed with their one line."""
    result = await kelpie("--help")

    assert result.code == 0
    for name in ("serve", "worker", "submit", "jobs", "show", "wait", "cancel", "admin", "demo"):
        assert f"│ {name} " in result.out


@pytest.mark.parametrize("name", ["serve", "worker", "submit", "jobs", "show", "wait", "cancel"])
async def test_each_command_explains_itself(kelpie: Kelpie, name: str) -> None:
    """`kelpie NAME --help` shows the real command, not its stub."""
    result = await kelpie(name, "--help")

    assert result.code == 0
    assert f"kelpie {name} [OPTIONS]" in result.out


async def test_version_is_printed(kelpie: Kelpie) -> None:
    """`kelpie --version` names program and version."""
    result = await kelpie("--version")

    assert (result.code, result.out) == (0, "kelpie 0.1.0\n")


async def test_an_unknown_command_is_a_usage_error(kelpie: Kelpie) -> None:
    """What is not a command ends with 2 and prints no data."""
    result = await kelpie("sumbit")

    assert (result.code, result.out) == (2, "")
    assert "sumbit" in result.err


async def test_without_a_key_the_person_is_told_where_keys_come_from(kelpie: Kelpie) -> None:
    """No key: one sentence that names the variable and both sources."""
    del kelpie.environment["KELPIE_API_KEY"]

    result = await kelpie("jobs")

    assert result.code == 4
    for hint in ("KELPIE_API_KEY", "kelpie serve", "kelpie admin key create"):
        assert hint in result.err


async def test_a_refused_key_is_not_allowed(kelpie: Kelpie) -> None:
    """The server's 403 becomes exit code 4, and the sentence says what to do."""
    kelpie.environment["KELPIE_API_KEY"] = "another key entirely"

    result = await kelpie("jobs")

    assert result.code == 4
    assert "KELPIE_API_KEY is unknown to this server" in result.err
    assert "kelpie admin key create" in result.err


@pytest.mark.parametrize("url", ["127.0.0.1:8787", "http://", "ftp://server"])
async def test_a_url_that_is_none_is_refused_before_it_is_asked(kelpie: Kelpie, url: str) -> None:
    """A missing scheme is the usual slip."""
    kelpie.environment["KELPIE_API_URL"] = url

    result = await kelpie("jobs")

    assert result.code == 2
    assert "KELPIE_API_URL: expected a URL that begins with http:// or https://" in result.err


async def test_a_key_may_end_in_a_newline(kelpie: Kelpie) -> None:
    """As one does that was read from a file."""
    kelpie.environment["KELPIE_API_KEY"] += "\n"

    assert (await kelpie("jobs")).code == 0


async def test_a_server_that_is_not_there_is_unreachable(kelpie: Kelpie) -> None:
    """Nobody listens: told at once, tried again, given up with 6."""
    kelpie.environment["KELPIE_API_URL"] = "http://127.0.0.1:9"

    result = await kelpie("jobs")

    assert (result.code, result.out) == (6, "")
    assert "Trying again." in result.err
    assert "Traceback" not in result.err


async def test_retries_say_nothing_on_stdout(kelpie: Kelpie, coordinator: Coordinator) -> None:
    """A lost answer is asked for again; what is printed stays pure data."""
    coordinator.answers_lost = 2

    result = await kelpie("jobs", "-o", "json")

    assert (result.code, result.json) == (0, [])
    assert "Trying again." in result.err


async def test_an_answer_nobody_understands_shows_no_traceback(
    kelpie: Kelpie, coordinator: Coordinator
) -> None:
    """A server that is something else entirely ends in a sentence."""
    coordinator.refusal = (200, {"hello": "world"})

    result = await kelpie("jobs")

    assert result.code == 1
    assert "was not understood" in result.err
    assert "Traceback" not in result.err


async def test_serve_check_validates_the_configuration(kelpie: Kelpie) -> None:
    """A good configuration is said to be one, on stderr."""
    result = await kelpie("serve", "--check", "--port", "0")

    assert (result.code, result.out, result.err) == (0, "", "configuration ok\n")


async def test_serve_check_refuses_an_unknown_setting(kelpie: Kelpie) -> None:
    """A typo in kelpie.toml is named together with what was meant."""
    (kelpie.directory / "kelpie.toml").write_text("prot = 8787\n")

    result = await kelpie("serve", "--check")

    assert result.code == 2
    assert "Did you mean `port`?" in result.err


async def test_serve_check_names_a_wrong_flag(kelpie: Kelpie) -> None:
    """A flag of the wrong kind is refused by name."""
    result = await kelpie("serve", "--check", "--port", "eighty")

    assert (result.code, result.err) == (2, "--port: expected int, got 'eighty'.\n")


async def test_the_worker_refuses_a_configuration_that_is_not_there(kelpie: Kelpie) -> None:
    """A named settings file must exist."""
    result = await kelpie("worker", "--config", "nowhere.toml")

    assert result.code == 2
    assert "nowhere.toml" in result.err
