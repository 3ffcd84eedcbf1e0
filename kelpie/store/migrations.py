"""Numbered SQL files, applied in order through sqlite-utils, each with its record in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import sqlite_utils
from sqlite_utils import Migrations

from kelpie.errors import StoreError

_SET = "kelpie"
_RECORD = "_sqlite_migrations"
_Migration = Callable[[sqlite_utils.Database], None]


def migrate(connection: sqlite3.Connection) -> list[str]:
    """Apply what is pending and return the names; refuses a database from a newer Kelpie."""
    database = sqlite_utils.Database(connection)
    migrations = _numbered()
    known = set(_names())
    newer = [done.name for done in migrations.applied(database) if done.name not in known]
    if newer:
        raise StoreError(
            f"This database was written by a newer Kelpie (it has the migration {newer[-1]}). "
            "Install that version or later, or restore a backup made by this one."
        )
    pending = [migration.name for migration in migrations.pending(database)]
    migrations.apply(database)
    return pending


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that another program made, before anything in it is changed."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables - {_RECORD}:
        # New, or its very first migration was cut short.
        return
    ours = f"SELECT 1 FROM {_RECORD} WHERE migration_set = ?"
    if _RECORD not in tables or not connection.execute(ours, (_SET,)).fetchall():
        raise StoreError(f"{path} is a database of another program. Name another file.")


def _names() -> list[str]:
    folder = resources.files("kelpie.store") / "schema"
    return sorted(
        entry.name.removesuffix(".sql") for entry in folder.iterdir() if entry.name.endswith(".sql")
    )


def _numbered() -> Migrations:
    migrations = Migrations(_SET)
    for name in _names():
        text = (resources.files("kelpie.store") / "schema" / f"{name}.sql").read_text(encoding="utf-8")
        migrations(name=name)(_runner(text))
    return migrations


def _runner(text: str) -> _Migration:
    def run(database: sqlite_utils.Database) -> None:
        # Statement by statement: executescript would commit the surrounding transaction first.
        for statement in _statements(text):
            database.conn.execute(statement)

    return run


def _statements(text: str) -> Iterator[str]:
    statement = ""
    for line in text.splitlines(keepends=True):
        if not statement and (not line.strip() or line.startswith("--")):
            continue
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
