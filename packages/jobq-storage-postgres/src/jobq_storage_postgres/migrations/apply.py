"""Bringing the schema up to date: numbered SQL files with checksums, each applied once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import psycopg
from msgspec import Struct
from psycopg import sql

from jobq_core.errors import SchemaError, StorageError
from jobq_storage_postgres.errors import translate
from jobq_storage_postgres.sql import in_schema

_REMEDY: Final = "run `jobq migrate`, or `await storage.migrate()` before it is opened"

Phase: TypeAlias = Literal["pre", "post", "all"]

_IDLE: Final = 60
"""Seconds after which the server gives up on whoever migrates and asks for nothing more: stopped, or off the network,
it would keep its locks, and everybody out, for hours."""

_FOLDER: Final = Path(__file__).parent
_NAME: Final = re.compile(r"(\d{4})_(pre|post)_[a-z0-9_]+\.sql")


class Migration(Struct, frozen=True):
    """One file: `0001_pre_tables`. 'pre' is safe while older code runs, 'post' once it is gone."""

    name: str
    phase: str
    text: str

    @property
    def checksum(self) -> str:
        """What tells whether the text was changed."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """Return all migrations in order."""
    found = []
    for path in sorted(_FOLDER.iterdir(), key=lambda path: path.name):
        match = _NAME.fullmatch(path.name)
        if match is not None:
            found.append(Migration(path.name.removesuffix(".sql"), match[2], path.read_text(encoding="utf-8")))
    return tuple(found)


def as_sql(schema: str) -> str:
    """Return all migrations as one script for psql, for a database that has none of them; it fails as a whole."""
    parts = [
        "-- The schema of jobq, for an empty database or one that has no jobq schema yet: run it with",
        "-- psql --set ON_ERROR_STOP=1 --file THIS DATABASE",
        "BEGIN;",
        _text(_create_schema(schema)) + ";",
        _text(_create_table(schema)) + ";",
    ]
    for migration in migrations():
        parts.append(f"\n-- {migration.name}\n\n{in_schema(migration.text, schema).rstrip()}\n")
        parts.append(_text(_note(schema, migration)) + ";")
    return "\n".join([*parts, "COMMIT;", ""])


def _text(query: sql.Composed) -> str:
    return query.as_string(None)


def _create_schema(schema: str) -> sql.Composed:
    return sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema))


def _create_table(schema: str) -> sql.Composed:
    return sql.SQL(
        "CREATE TABLE IF NOT EXISTS {} "
        "(name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    ).format(sql.Identifier(schema, "migration"))


def _note(schema: str, migration: Migration) -> sql.Composed:
    return sql.SQL("INSERT INTO {} (name, checksum) VALUES ({}, {})").format(
        sql.Identifier(schema, "migration"), sql.Literal(migration.name), sql.Literal(migration.checksum)
    )


async def migrate(conninfo: Mapping[str, Any], schema: str, phase: Phase) -> list[str]:
    """Apply what is not applied yet and return its names; all of it in one transaction, under a lock.

    Raises SchemaError for an applied migration whose text changed, StorageUnavailableError without a connection.
    """
    async with _owner(conninfo, schema) as connection:
        return await _migrate(connection, schema, phase)


async def execute(conninfo: Mapping[str, Any], schema: str, statements: Iterable[str]) -> None:
    """Run statements of the owner's, in one transaction."""
    async with _owner(conninfo, schema) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


@asynccontextmanager
async def _owner(conninfo: Mapping[str, Any], schema: str) -> AsyncGenerator[psycopg.AsyncConnection[Any], None]:
    """Connect for one transaction; whatever becomes of it, the commit failing included, the connection is closed."""
    try:
        connection = await psycopg.AsyncConnection.connect(**conninfo, prepare_threshold=None)
        try:
            yield connection
            await connection.commit()
        finally:
            await connection.close()
    except psycopg.errors.InsufficientPrivilege as error:
        name = sql.Identifier(schema).as_string(None)
        raise StorageError(
            f"this role is not the owner ({error.diag.message_primary}): whoever migrates and grants must own schema "
            f"{name} and what is in it; an administrator makes one by CREATE SCHEMA {name} AUTHORIZATION and the role"
        ) from error
    except (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject, psycopg.errors.DuplicateFunction) as error:
        raise SchemaError(_in_the_way(schema, error)) from error
    except (psycopg.errors.UndefinedColumn, psycopg.errors.WrongObjectType) as error:
        raise SchemaError(_in_the_way(schema, error)) from error
    except psycopg.Error as error:
        raise translate(error) from error


def _in_the_way(schema: str, error: psycopg.Error) -> str:
    return (
        f"schema {schema!r} holds something that no migration of jobq made: {error.diag.message_primary}; "
        "choose another schema (?schema=… in the URL), or move it out of the way"
    )


async def _migrate(connection: psycopg.AsyncConnection[Any], schema: str, phase: Phase) -> list[str]:
    await connection.execute(
        "SELECT set_config('idle_in_transaction_session_timeout', %s, true)", (f"{round(_IDLE * 1000)}",)
    )
    # A lock that ends with the transaction: one of a session would be anybody's behind a pooler.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('jobq'), hashtext(%s))", (schema,))
    found = await (await connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))).fetchone()
    if found is None:
        # Not IF NOT EXISTS alone: that asks for the right to create schemas even where the schema is there.
        await connection.execute(_create_schema(schema))
    table = sql.Identifier(schema, "migration")
    there = await (await connection.execute("SELECT to_regclass(%s)", (table.as_string(None),))).fetchone()
    if there is None or there[0] is None:
        await connection.execute(_create_table(schema))
    rows = await (await connection.execute(sql.SQL("SELECT name, checksum FROM {}").format(table))).fetchall()
    applied = dict(rows)
    _refuse_newer(schema, applied)
    done: list[str] = []
    for migration in migrations():
        checksum = applied.get(migration.name)
        if checksum is not None:
            if checksum != migration.checksum:
                raise SchemaError(
                    f"migration {migration.name} was applied to schema {schema!r} with another text than this "
                    "version has; it must not be edited once applied"
                )
        elif phase in ("all", migration.phase):
            await connection.execute(in_schema(migration.text, schema).encode())
            await connection.execute(_note(schema, migration))
            done.append(migration.name)
    return done


def check(schema: str, applied: Mapping[str, str] | None) -> None:
    """Compare what is applied (None: no tables) with what this code needs; raises SchemaError."""
    if applied is None:
        raise SchemaError(f"there are no tables of jobq in schema {schema!r}: {_REMEDY}")
    known = {migration.name: migration for migration in migrations()}
    missing = [name for name, migration in known.items() if migration.phase == "pre" and name not in applied]
    if missing:
        raise SchemaError(f"schema {schema!r} is older than this code ({missing[0]} is missing): {_REMEDY}")
    for name, checksum in applied.items():
        if name in known and known[name].checksum != checksum:
            raise SchemaError(
                f"migration {name} of schema {schema!r} was applied with another text than this code has; "
                "`jobq migrate` of the version that applied it would say so too"
            )
    _refuse_newer(schema, applied)


def _refuse_newer(schema: str, applied: Mapping[str, str]) -> None:
    known = {migration.name for migration in migrations()}
    for name in applied:
        # 'pre' ones are made so that older code works on; 'post' ones take away what it needs.
        if name not in known and not name[4:].startswith("_pre_"):
            raise SchemaError(
                f"schema {schema!r} is newer than this code (it has {name}): upgrade jobq-storage-postgres, which "
                "`jobq migrate` belongs to"
            )
