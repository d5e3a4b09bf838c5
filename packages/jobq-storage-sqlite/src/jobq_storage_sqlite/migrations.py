"""Applying migrations to a file, under its write lock."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from jobq_core.errors import SchemaError
from jobq_core.migrations import Migrations
from jobq_core.storage import Phase

_TABLE: Final = """\
CREATE TABLE IF NOT EXISTS jobq_migration (
    name TEXT PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT, WITHOUT ROWID;
"""
_INSERT: Final = "INSERT INTO jobq_migration (name, checksum) VALUES (?, ?)"


@cache
def known() -> Migrations:
    """Return the migrations that this code knows."""
    return Migrations.read(Path(__file__).with_name("migrations"), "jobq-storage-sqlite")


def migration_sql() -> str:
    """Return all migrations as one script for the sqlite3 shell, which stores their names and checksums too."""
    parts = ["BEGIN IMMEDIATE;\n", _TABLE]
    for step in known().steps:
        parts.append(f"\n-- {step.name}\n{step.text}")
        parts.append(f"\nINSERT INTO jobq_migration (name, checksum) VALUES ('{step.name}', '{step.checksum}');\n")
    return "".join([*parts, "\nCOMMIT;\n"])


@cache
def indexes() -> dict[str, str]:
    """Return the statements that create the indexes of all migrations, by the indexes' names."""
    statements = [statement for step in known().steps for statement in _statements(step.text)]
    found = [re.search(r"^CREATE INDEX (\w+)", statement, re.MULTILINE) for statement in statements]
    return {
        match[1]: statement[match.start() :].strip()
        for match, statement in zip(found, statements, strict=True)
        if match is not None
    }


def is_complete(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file has all migrations that opening it applies. Raises SchemaError as `Migrations.to_apply` does."""
    return not known().to_apply(_applied(connection), "pre", _where(path))


def require(connection: sqlite3.Connection, path: str) -> None:
    """Raise SchemaError unless this code can work with the file."""
    known().require(_applied(connection), _where(path))


def apply(connection: sqlite3.Connection, path: str, phase: Phase) -> list[str]:
    """Apply the missing migrations of a phase, all or none, and return their names.

    A file without tables gets all migrations, whatever the phase: no older code can be using it.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_TABLE)
        applied = _applied(connection)
        steps = known().to_apply(applied, phase if applied else "all", _where(path))
        for step in steps:
            for statement in _statements(step.text):
                connection.execute(statement)
            connection.execute(_INSERT, (step.name, step.checksum))
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if re.search(r"already exists|no such|has no column", str(error)):
            raise SchemaError(
                f"{_where(path)} has other tables, or columns, of the names that jobq's have: {error}; "
                "use another file, or rename them"
            ) from error
        raise
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return [step.name for step in steps]


def _where(path: str) -> str:
    return f"SQLite file {path}"


def _applied(connection: sqlite3.Connection) -> dict[str, str]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobq_migration'").fetchone():
        return {}
    try:
        rows = connection.execute("SELECT name, checksum FROM jobq_migration").fetchall()
    except sqlite3.OperationalError as error:
        if "no such column" not in str(error):
            raise
        raise SchemaError(
            f"the table jobq_migration belongs to another program: {error}; use another file, or rename it"
        ) from error
    return {str(name): str(checksum) for name, checksum in rows}


def _statements(script: str) -> Iterator[str]:
    """Split a script into statements; `executescript` would commit the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise SchemaError(f"a migration ends within a statement: {statement.strip()[:80]!r}")
