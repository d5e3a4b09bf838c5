"""A PostgreSQL database to migrate over a connection on which each statement can fail, also inside a script."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString, cast
from unittest import mock

import psycopg

from jobq_core.migrations import Migration, Migrations
from jobq_storage_postgres import PostgresQueueStorage, migrations

from .place import Fault
from .postgres import FAULTY, Caller, OnPostgres
from .schema import OLDER, Act, Schema, fill

MORE = Migration(
    "9001_pre_notes",
    "CREATE TABLE jobq.note (job uuid PRIMARY KEY, note text);\n"
    "INSERT INTO jobq.note SELECT id, kind FROM jobq.job;\n"
    "CREATE INDEX note_note ON jobq.note (note);\n",
)
LESS = Migration(
    "9002_post_fewer_notes",
    "DROP INDEX jobq.note_note;\n"
    "ALTER TABLE jobq.note DROP COLUMN note;\n"
    "ALTER TABLE jobq.note ADD COLUMN told timestamptz NOT NULL DEFAULT now();\n",
)

CATALOG = """
SELECT concat_ws(' ', 'relation', c.relname, c.relkind, c.relpersistence, c.relreplident, c.reloptions, c.relacl,
    pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
    CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END)
FROM pg_class c WHERE c.relnamespace = 'jobq'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'column', c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
    format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attstorage, a.attcompression,
    a.attstattarget, a.attoptions, pg_get_expr(d.adbin, d.adrelid))
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'jobq'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT concat_ws(' ', 'constraint', c.conrelid::regclass, c.conname, c.convalidated, pg_get_constraintdef(c.oid))
FROM pg_constraint c WHERE c.connamespace = 'jobq'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid))
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'jobq'::regnamespace AND i.indisvalid AND i.indisready AND i.indislive
UNION ALL
SELECT concat_ws(' ', 'function', pg_get_functiondef(p.oid), p.proacl)
FROM pg_proc p WHERE p.pronamespace = 'jobq'::regnamespace
UNION ALL
SELECT concat_ws(' ', 'sequence', s.*) FROM pg_sequences s WHERE s.schemaname = 'jobq' AND s.last_value IS NULL
UNION ALL
SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid))
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'jobq'::regnamespace
ORDER BY 1
"""
NO_SUCH_WEEK = re.compile(r"_\d{8}\b|'[0-9a-f-]{36}'")
"""The name and the bounds of a partition, which depend on the week of its creation."""


class Migrator(Caller):
    """A connection that executes each statement of a script separately, so that each can fail."""

    async def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """See `psycopg.AsyncConnection.wait`."""
        faulty = self.info.parameter_status("application_name") == FAULTY.decode()
        return await (super() if faulty else super(Caller, self)).wait(gen, *args, **options)

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """See `psycopg.AsyncConnection.execute`."""
        if not isinstance(query, bytes):
            return await super().execute(query, params, **options)
        for statement in _statements(query.decode()):
            done = await super().execute(cast(LiteralString, statement).encode())
        return done


def _statements(script: str) -> Iterator[str]:
    """Split a script at the ends of its statements, outside of function bodies."""
    statement, quoted = "", False
    for line in script.splitlines(keepends=True):
        said = line.partition("--")[0].rstrip()
        quoted ^= said.count("$$") % 2 == 1
        statement += line
        if said.endswith(";") and not quoted:
            yield statement
            statement = ""
    assert not statement.strip()


class Driver:
    """Replaces the module `psycopg` during the migration."""

    AsyncConnection = Migrator

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)


class PostgresSchema(Schema):
    """A schema in a separate database, which is made from a template for each case."""

    name = "PostgreSQL"
    kinds = OnPostgres.kinds
    cases: tuple[tuple[str, Act], ...] = (("nothing", "all"), ("before", "all"), ("pre", "post"))

    def __init__(self, dsn: str, connection: psycopg.AsyncConnection[Any]) -> None:
        super().__init__()
        self._connection = connection
        self._dsn = dsn

    def _at(self, database: str, **options: str) -> str:
        return psycopg.conninfo.make_conninfo(self._dsn, dbname=database, **options)

    async def prepare(self) -> None:
        """See `Schema.prepare`."""
        await self._connection.execute(b"CREATE DATABASE kept_nothing")
        for start, more in OLDER.items():
            await self._connection.execute(f"CREATE DATABASE kept_{start}".encode())
            with self.knowing(more):
                storage = PostgresQueueStorage(self._at(f"kept_{start}"))
                await storage.migrate()
                self.kept[start] = await fill(storage)

    def knowing(self, more: int) -> Any:
        """See `Schema.knowing`."""
        known = migrations.known()
        more_steps = Migrations(known.package, (*known.steps, *(MORE, LESS)[:more]))
        return mock.patch.object(migrations, "known", return_value=more_steps)

    async def start(self, start: str) -> None:
        """See `Schema.start`."""
        await self._connection.execute(b"DROP DATABASE IF EXISTS migrated WITH (FORCE)")
        await self._connection.execute(f"CREATE DATABASE migrated TEMPLATE kept_{start}".encode())

    def storage(self) -> PostgresQueueStorage:
        """See `Schema.storage`."""
        return PostgresQueueStorage(self._at("migrated"))

    @asynccontextmanager
    async def faulty(self, fault: Fault) -> AsyncIterator[PostgresQueueStorage]:
        """See `Schema.faulty`."""
        Migrator.fault = fault
        with mock.patch.object(migrations, "psycopg", Driver()):
            yield PostgresQueueStorage(self._at("migrated", application_name=FAULTY.decode()))

    async def catalog(self) -> list[str]:
        """See `Schema.catalog`."""
        return [NO_SUCH_WEEK.sub("_week", line) for (line,) in await self._rows(CATALOG)]

    async def applied(self) -> list[str]:
        """See `Schema.applied`."""
        return [name for (name,) in await self._rows("SELECT name FROM jobq.migration ORDER BY name")]

    async def _rows(self, query: str) -> list[Any]:
        async with await psycopg.AsyncConnection.connect(self._at("migrated")) as connection:
            return await (await connection.execute(query.encode())).fetchall()

    async def nothing_is_open(self) -> None:
        """See `Schema.nothing_is_open`. The server may take a moment to notice a lost connection."""
        until = time.monotonic() + 20
        query = b"SELECT state, query FROM pg_stat_activity WHERE application_name = %s"
        while left := await (await self._connection.execute(query, (FAULTY.decode(),))).fetchall():
            assert time.monotonic() < until, f"still there: {left}"
            await asyncio.sleep(0.002)
