"""The schema's numbered steps: which there are, which a file has, and applying the rest under its write lock.

A step is a file `migrations/NNNN_name.sql` whose first line says its phase: `-- phase: pre` where older code goes on
working beside it, `-- phase: post` where it does not.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Collection, Iterator
from functools import cache
from typing import Final, Literal

from msgspec import Struct

from jobq_core.errors import SchemaError
from jobq_storage_sqlite.sqlfiles import FOLDER

Phase = Literal["pre", "post", "all"]

_LEDGER: Final = """\
CREATE TABLE IF NOT EXISTS jobq_migration (
    name TEXT PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT, WITHOUT ROWID;
"""


class Migration(Struct, frozen=True):
    """One step. name: the file's, without its ending; text: what it runs."""

    name: str
    phase: str
    text: str

    @property
    def checksum(self) -> str:
        """The SHA-256 of its text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@cache
def known() -> tuple[Migration, ...]:
    """Return the steps that this code knows, in order."""
    found: list[Migration] = []
    for file in FOLDER.joinpath("migrations").iterdir():
        if file.name.endswith(".sql"):
            text = file.read_text("utf-8")
            phase = re.match(r"-- phase: (pre|post)\n", text)
            if phase is None:
                raise SchemaError(f"migration {file.name} does not begin with its phase")
            found.append(Migration(file.name.removesuffix(".sql"), phase[1], text))
    return tuple(sorted(found, key=lambda migration: migration.name))


def migration_sql() -> str:
    """Return all steps as one script for the sqlite3 shell, keeping the ledger too."""
    parts = ["BEGIN IMMEDIATE;\n", _LEDGER]
    for step in known():
        parts.append(f"\n-- {step.name}\n{step.text}")
        parts.append(f"\nINSERT INTO jobq_migration (name, checksum) VALUES ('{step.name}', '{step.checksum}');\n")
    return "".join([*parts, "\nCOMMIT;\n"])


def check(connection: sqlite3.Connection, path: str) -> Collection[str]:
    """Return the names of the steps that the file lacks; raises SchemaError for one unknown here or changed since."""
    applied = _applied(connection)
    steps = {step.name: step for step in known()}
    newer = sorted(applied.keys() - steps.keys())
    if newer:
        raise SchemaError(
            f"SQLite file {path}: its schema is newer than this jobq-storage-sqlite knows (it has {', '.join(newer)}); "
            "upgrade jobq-storage-sqlite here"
        )
    for name, checksum in applied.items():
        if steps[name].checksum != checksum:
            raise SchemaError(
                f"SQLite file {path}: migration {name} was applied with another text than this code has; "
                "was its file edited?"
            )
    return [name for name in steps if name not in applied]


def require(connection: sqlite3.Connection, path: str) -> None:
    """Raise SchemaError unless this code can work with the file as it is."""
    missing = check(connection, path)
    if len(missing) == len(known()):
        raise SchemaError(
            f"SQLite file {path} has no tables of jobq yet; run `jobq migrate`, or open it with migrate=True"
        )
    needed = [step.name for step in known() if step.name in missing and step.phase == "pre"]
    if needed:
        raise SchemaError(
            f"SQLite file {path}: its schema is older than this code needs (it lacks {', '.join(needed)}); "
            "run `jobq migrate`"
        )


def apply(connection: sqlite3.Connection, path: str, phase: Phase) -> list[str]:
    """Apply the missing steps of a phase and return their names; all or none, and once even if two do it at a time.

    An empty file gets all steps whatever the phase: no older code can be using it.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_LEDGER)
        missing = check(connection, path)
        fresh = len(missing) == len(known())
        steps = [step for step in known() if step.name in missing and (fresh or phase in (step.phase, "all"))]
        for step in steps:
            for statement in _statements(step.text):
                connection.execute(statement)
            connection.execute("INSERT INTO jobq_migration (name, checksum) VALUES (?, ?)", (step.name, step.checksum))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return [step.name for step in steps]


def _applied(connection: sqlite3.Connection) -> dict[str, str]:
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobq_migration'").fetchone()
    return dict(connection.execute("SELECT name, checksum FROM jobq_migration")) if there else {}


def _statements(script: str) -> Iterator[str]:
    """Split a script; `executescript` would commit what stands before it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise SchemaError(f"a migration ends within a statement: {statement.strip()[:80]!r}")
