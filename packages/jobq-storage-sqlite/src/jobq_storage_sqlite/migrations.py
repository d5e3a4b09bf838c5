"""The schema's numbered steps: which there are, which a file has, and applying the rest under its write lock.

A step is a file `migrations/NNNN_phase_name.sql`. Its phase is `pre` where older code goes on working beside it, `post`
where it does not; so older code can tell by their names which of the steps that it does not know are in its way.
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
from jobq_storage_sqlite.sql import FOLDER

Phase = Literal["pre", "post", "all"]

_NAME: Final = re.compile(r"\d{4}_(pre|post)_[a-z0-9_]+")

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
            name = file.name.removesuffix(".sql")
            match = _NAME.fullmatch(name)
            if match is None:
                raise SchemaError(f"migration {file.name} does not say its number and its phase")
            found.append(Migration(name, match[1], file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.name))


def migration_sql() -> str:
    """Return all steps as one script for the sqlite3 shell, keeping the ledger too."""
    parts = ["BEGIN IMMEDIATE;\n", _LEDGER]
    for step in known():
        parts.append(f"\n-- {step.name}\n{step.text}")
        parts.append(f"\nINSERT INTO jobq_migration (name, checksum) VALUES ('{step.name}', '{step.checksum}');\n")
    return "".join([*parts, "\nCOMMIT;\n"])


def check(connection: sqlite3.Connection, path: str) -> Collection[str]:
    """Return the names of the steps that the file lacks; raises SchemaError for one changed since, or unknown here and
    in the way of this code."""
    applied = _applied(connection)
    steps = {step.name: step for step in known()}
    # 'pre' steps are made so that older code works on; 'post' ones take away what it needs.
    newer = sorted(name for name in applied.keys() - steps.keys() if not name[4:].startswith("_pre_"))
    if newer:
        raise SchemaError(
            f"SQLite file {path}: its schema is newer than this jobq-storage-sqlite knows (it has {', '.join(newer)}); "
            "upgrade jobq-storage-sqlite, which `jobq migrate` belongs to"
        )
    for name, checksum in applied.items():
        if name in steps and steps[name].checksum != checksum:
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
    except sqlite3.OperationalError as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if re.search(r"already exists|no such|has no column", str(error)):
            raise SchemaError(
                f"SQLite file {path}: what jobq's tables are to be called is something else there, or a part of them: "
                f"{error}; use another file, or move it out of the way"
            ) from error
        raise
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return [step.name for step in steps]


def _applied(connection: sqlite3.Connection) -> dict[str, str]:
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobq_migration'").fetchone()
    if not there:
        return {}
    try:
        rows = connection.execute("SELECT name, checksum FROM jobq_migration").fetchall()
    except sqlite3.OperationalError as error:
        if "no such column" not in str(error):
            raise
        raise SchemaError(
            f"the table jobq_migration is not jobq's: {error}; use another file, or move it out of the way"
        ) from error
    return {str(name): str(checksum) for name, checksum in rows}


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
