"""A SQLite file to migrate, by `migrate` or by opening it."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from unittest import mock

from jobq_core.migrations import Migration, Migrations
from jobq_storage_sqlite import SqliteQueueStorage, migrations

from .place import Fault
from .schema import OLDER, Act, Schema, fill
from .sqlite import Driver, OnSqlite

MORE = Migration(
    "9001_pre_notes",
    "CREATE TABLE jobq_note (job BLOB PRIMARY KEY, note TEXT) STRICT;\n"
    "INSERT INTO jobq_note SELECT id, kind FROM jobq_job;\n"
    "CREATE INDEX jobq_note_note ON jobq_note (note);\n",
)
LESS = Migration(
    "9002_post_fewer_notes",
    "DROP INDEX jobq_note_note;\n"
    "ALTER TABLE jobq_note DROP COLUMN note;\n"
    "ALTER TABLE jobq_note ADD COLUMN told INTEGER;\n",
)


class Ours(threading.local):
    """Whether this thread connects for the storage with the fault."""

    true = False


class OursOnly(Driver):
    """Replaces the module `sqlite3` while two storages migrate."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.ours = Ours()

    def connect(self, *args: Any, **options: Any) -> sqlite3.Connection:
        """See `sqlite3.connect`."""
        return super().connect(*args, **options) if self.ours.true else sqlite3.connect(*args, **options)


class SqliteSchema(Schema):
    """A schema in a file that is copied for each case."""

    name = "SQLite"
    kinds = OnSqlite.kinds
    cases: tuple[tuple[str, Act], ...] = (
        ("nothing", "all"),
        ("nothing", "open"),
        ("before", "open"),
        ("before", "all"),
        ("pre", "post"),
    )

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "jobs.db"
        self._kept = {start: folder / f"{start}.db" for start in OLDER}

    async def prepare(self) -> None:
        """See `Schema.prepare`."""
        for start, file in self._kept.items():
            with self.knowing(OLDER[start]):
                storage = SqliteQueueStorage(file, synchronous="NORMAL")
                await storage.migrate()
                self.kept[start] = await fill(storage)

    def knowing(self, more: int) -> Any:
        """See `Schema.knowing`."""
        known = migrations.known()
        steps = (*known.steps, *(MORE, LESS)[:more])
        return mock.patch.object(migrations, "known", return_value=Migrations(known.package, steps))

    async def start(self, start: str) -> None:
        """See `Schema.start`."""
        for file in self.path.parent.glob("jobs.db*"):
            file.unlink()
        if start != "nothing":
            shutil.copy(self._kept[start], self.path)

    def storage(self) -> SqliteQueueStorage:
        """See `Schema.storage`."""
        return SqliteQueueStorage(self.path, synchronous="NORMAL")

    @asynccontextmanager
    async def faulty(self, fault: Fault) -> AsyncIterator[SqliteQueueStorage]:
        """See `Schema.faulty`."""
        storage, driver = self.storage(), OursOnly(fault)
        connect = storage._connect

        def ours(**options: Any) -> sqlite3.Connection:
            driver.ours.true = True
            try:
                return connect(**options)
            finally:
                driver.ours.true = False

        with (
            mock.patch.object(storage, "_connect", ours),
            mock.patch("jobq_storage_sqlite.connect.sqlite3", driver),
        ):
            yield storage

    async def catalog(self) -> list[str]:
        """See `Schema.catalog`."""
        with closing(sqlite3.connect(self.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")
            return [" ".join(map(str, row)) for row in rows]

    async def applied(self) -> list[str]:
        """See `Schema.applied`."""
        with closing(sqlite3.connect(self.path)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM jobq_migration ORDER BY name")]

    async def nothing_is_open(self) -> None:
        """See `Schema.nothing_is_open`."""
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
