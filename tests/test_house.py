"""The rules of the house: which room may import which, and one door per library."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "kelpie"
BASE = {
    "contract",
    "webhook_contract",
    "overview",
    "lifecycle",
    "errors",
    "config",
    "patterns",
    "logs",
    "outgoing",
}
# What each room may import of Kelpie, beside itself and the base.
ROOMS: dict[str, set[str]] = {
    "store": set(),
    "sync": set(),
    "scaling": set(),
    "client": set(),
    "server": {"store", "scaling", ""},
    "worker": {"sync", "client", ""},
    "cli": {"server", "worker", "store", "sync", "client", ""},
}
DOORS: dict[str, tuple[str, ...]] = {
    "sqlite3": ("store/",),
    "aiosqlite": ("store/",),
    "sqlite_utils": ("store/",),
    "litestar": ("server/",),
    "uvicorn": ("server/",),
    "prometheus_client": ("server/metrics.py",),
    "aiobotocore": ("sync/bucket.py", "scaling/ec2.py"),
    "botocore": ("sync/bucket.py", "scaling/ec2.py"),
    "watchfiles": ("sync/watch.py",),
    "isal": ("sync/",),
    "rich": ("cli/",),
    "rich_click": ("cli/",),
}
BASE_LIBRARIES = {"msgspec", "structlog"}
# The client for addresses that users name is part of the base and an HTTP client all the same:
# only the server and its providers import it, so nobody else pays for it.
MORE_LIBRARIES = {"outgoing.py": {"aiohttp", "yarl"}}
READ_ENVIRONMENT = {"config.py", "worker/child.py"}


def modules() -> list[Path]:
    """List every module of the package."""
    return sorted(path for path in ROOT.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Name every module a file imports, wherever the import stands, type-checking blocks excepted."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room_of(path: Path) -> str:
    """Name the room a file is in."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_the_rooms_below_it(path: Path) -> None:
    """Server and worker share the contract and nothing else; base modules know nobody."""
    room = room_of(path)
    for name in imports(path):
        if name.split(".")[0] != "kelpie":
            continue
        target = name.partition(".")[2].split(".")[0]
        if room in BASE:
            assert target in BASE, f"{path} imports {name}"
        elif room in ROOMS:
            assert target in BASE | {room} | ROOMS[room], f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_library_has_one_door(path: Path) -> None:
    """A library that is to be replaced is replaced in one place."""
    where = str(path.relative_to(ROOT))
    for name in imports(path):
        doors = DOORS.get(name.split(".")[0])
        assert doors is None or where.startswith(doors), f"{where} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_but_the_configuration_and_the_child_reads_the_environment(path: Path) -> None:
    """A setting that is read elsewhere is documented nowhere."""
    if str(path.relative_to(ROOT)) in READ_ENVIRONMENT or path.name == "train.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        read = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Call) else ""
        assert not read.startswith(("os.environ", "os.getenv", "getenv(")), f"{path}: {read}"


@pytest.mark.parametrize(
    "path", [ROOT / f"{name}.py" for name in sorted(BASE) if (ROOT / f"{name}.py").exists()]
)
def test_base_modules_need_next_to_nothing(path: Path) -> None:
    """Whatever the base imports, everything imports."""
    import sys

    for name in imports(path):
        top = name.split(".")[0]
        allowed = {"kelpie", *BASE_LIBRARIES, *MORE_LIBRARIES.get(path.name, ()), *sys.stdlib_module_names}
        assert top in allowed, f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_and_no_function_outgrows_its_reader(path: Path) -> None:
    """Past 400 lines a file, past 40 a function, something wants to be split."""
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 40, f"{path}:{node.lineno} {node.name} has {lines} lines"
