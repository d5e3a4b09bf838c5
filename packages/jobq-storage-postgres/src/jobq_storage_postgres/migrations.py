"""Applying the migrations, the numbered SQL files in the folder of the same name."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from jobq_core.errors import SchemaError, StorageError, StorageUnavailableError
from jobq_core.migrations import Migration, Migrations
from jobq_core.storage import Phase
from jobq_storage_postgres.address import Address
from jobq_storage_postgres.errors import translate
from jobq_storage_postgres.sql import in_schema

_log = logging.getLogger("jobq.postgres")

_IDLE_SECONDS: Final = 60
"""Time after which the server ends the transaction of a migrator that sends nothing more.

A migrator that is paused, or off the network, would keep its locks for hours.
"""
_LOCK_SECONDS: Final = 0.5
"""Maximum time that a migration waits for a table which another transaction uses.

Workers and clients that need the table wait behind it. It is shorter than the time after which the server looks for a
deadlock, so workers and clients are not rolled back.
"""
_PAUSE_SECONDS: Final = 0.5
"""Minimum time between two tries, half of the maximum."""
_TRIES: Final = 60
"""How often the migrations are tried while other transactions use the tables: for one to two minutes."""
_IN_USE: Final = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
"""The errors of a migration whose tables other transactions use."""


@cache
def known() -> Migrations:
    """Return all migrations."""
    return Migrations.read(Path(__file__).with_name("migrations"), "jobq-storage-postgres")


def where(schema: str) -> str:
    """Name the database in error messages."""
    return f"database schema {schema!r}"


def as_sql(schema: str) -> str:
    """Return all migrations as one script for psql, for a database that has no jobq schema; it fails as a whole."""
    parts = [
        "-- The schema of jobq, for an empty database or one that has no jobq schema yet: run it with",
        "-- psql --set ON_ERROR_STOP=1 --file THIS DATABASE",
        "BEGIN;",
        _text(_create_schema(schema)) + ";",
        _text(_create_table(schema)) + ";",
    ]
    for migration in known().steps:
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


async def migrate(address: Address, schema: str, phase: Phase) -> list[str]:
    """Apply the migrations of a phase that are not applied yet, in one transaction under a lock; return their names.

    A transaction that cannot have a table within half a second is rolled back and tried again, so that workers and
    clients go on in between.

    Raises SchemaError for an applied migration whose text changed, StorageUnavailableError without a connection or if a
    table stays in use.
    """
    tries = 0
    while True:
        async with _owner(address, schema) as connection:
            try:
                return await _migrate(connection, schema, phase)
            except _IN_USE as error:
                await connection.rollback()
                user = await _user_of_tables(connection, schema)
                tries += 1
                if tries >= _TRIES:
                    raise StorageUnavailableError(
                        f"the migration needs tables of {where(schema)} that are in use: {user}. End that, or migrate "
                        "when it has ended; nothing was changed"
                    ) from error
        _log.info("the migration waits for tables of %s that are in use: %s", where(schema), user)
        await asyncio.sleep(random.uniform(1, 2) * _PAUSE_SECONDS)


async def execute(address: Address, schema: str, statements: Iterable[str]) -> None:
    """Run statements as the owner of the tables, in one transaction."""
    async with _owner(address, schema) as connection:
        for statement in statements:
            await connection.execute(statement.encode())
        await _warn_of_row_security(connection, schema)


@asynccontextmanager
async def _owner(address: Address, schema: str) -> AsyncGenerator[psycopg.AsyncConnection[Any], None]:
    """Connect for one transaction; the connection is closed even if its commit fails."""
    try:
        connection = await psycopg.AsyncConnection.connect(**await address.complete_async(), prepare_threshold=None)
        try:
            yield connection
            await connection.commit()
        finally:
            await connection.close()
    except psycopg.errors.InsufficientPrivilege as error:
        name = sql.Identifier(schema).as_string(None)
        raise StorageError(
            f"this role is not the owner ({error.diag.message_primary}): the role that migrates and grants must own "
            f"schema {name} and its tables; an administrator creates it by CREATE SCHEMA {name} AUTHORIZATION and the "
            "role"
        ) from error
    except (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject, psycopg.errors.DuplicateFunction) as error:
        raise SchemaError(_in_the_way(schema, error)) from error
    except (psycopg.errors.UndefinedColumn, psycopg.errors.WrongObjectType) as error:
        raise SchemaError(_in_the_way(schema, error)) from error
    except psycopg.Error as error:
        raise translate(error) from error


def _in_the_way(schema: str, error: psycopg.Error) -> str:
    return (
        f"schema {schema!r} holds an object that jobq did not create: {error.diag.message_primary}; "
        "choose another schema (?schema=… in the URL), or move it out of the way"
    )


async def _migrate(connection: psycopg.AsyncConnection[Any], schema: str, phase: Phase) -> list[str]:
    await _prepare(connection)
    # A lock of the transaction: behind a pooler, other clients would share a session's lock.
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('jobq'), hashtext(%s))", (schema,))
    found = await (await connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))).fetchone()
    if found is None:
        # IF NOT EXISTS alone requires the right to create schemas, even where the schema exists.
        await connection.execute(_create_schema(schema))
    await connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{round(_LOCK_SECONDS * 1000)}",))
    table = sql.Identifier(schema, "migration")
    found = await (await connection.execute("SELECT to_regclass(%s)", (table.as_string(None),))).fetchone()
    if found is None or found[0] is None:
        await connection.execute(_create_table(schema))
    rows = await (await connection.execute(sql.SQL("SELECT name, checksum FROM {}").format(table))).fetchall()
    steps = known().to_apply(dict(rows), phase, where(schema))
    for migration in steps:
        await connection.execute(in_schema(migration.text, schema).encode())
        await connection.execute(_note(schema, migration))
    await _warn_of_row_security(connection, schema)
    return [migration.name for migration in steps]


async def _prepare(connection: psycopg.AsyncConnection[Any]) -> None:
    """Check the database, and make the settings of the transaction that migrates. Raises StorageError."""
    row = await (
        await connection.execute(
            "SELECT current_setting('server_encoding'), t.spcname "
            "FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()"
        )
    ).fetchone()
    assert row is not None
    encoding, tablespace = row
    if encoding != "UTF8":
        raise StorageError(
            f"the database has the encoding {encoding}, which cannot hold what jobs may contain; jobq needs a database "
            "with the encoding UTF8 (CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0)"
        )
    await connection.execute(
        "SELECT set_config('idle_in_transaction_session_timeout', %s, true), "
        "set_config('standard_conforming_strings', 'on', true), "
        # A partitioned table refuses the database's own tablespace where it is set by name.
        "set_config('default_tablespace', coalesce(nullif(current_setting('default_tablespace'), %s), ''), true)",
        (f"{round(_IDLE_SECONDS * 1000)}", tablespace),
    )


async def _user_of_tables(connection: psycopg.AsyncConnection[Any], schema: str) -> str:
    """Describe the oldest transaction that uses tables of the schema now, as far as this role may see it."""
    rows = await connection.execute(
        "SELECT a.pid, a.application_name, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 "
        "FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a ON a.pid = l.pid "
        "WHERE l.granted AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) "
        "AND c.relnamespace = to_regnamespace(%s) AND a.xact_start IS NOT NULL "
        "ORDER BY a.xact_start LIMIT 1",
        (sql.Identifier(schema).as_string(None),),
    )
    if (row := await rows.fetchone()) is None:
        return "many short transactions"
    pid, application, seconds = row
    return f"process {pid} of the server ({application or 'unnamed'}) has a transaction open for {seconds:.1f} s"


async def _warn_of_row_security(connection: psycopg.AsyncConnection[Any], schema: str) -> None:
    """Log the tables that have row level security."""
    rows = await connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p') "
        "AND NOT relispartition AND relrowsecurity ORDER BY relname",
        (sql.Identifier(schema).as_string(None),),
    )
    if tables := [name for (name,) in await rows.fetchall()]:
        _log.warning(
            "row level security is on for %s in %s, and refuses every role except their owner: run ALTER TABLE … "
            "DISABLE ROW LEVEL SECURITY for each of them, or ALTER ROLE … BYPASSRLS for each role",
            ", ".join(tables),
            where(schema),
        )
