"""A world in a SQLite file; faults are injected into the connection and its cursors."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import aiosqlite

from jobq_storage_sqlite import SqliteQueueStorage

from .place import Fault, Kind, Place
from .scenario import Stage
from .world import CHUNK, START, World, make


class Connection(sqlite3.Connection):
    """A connection whose statements can fail."""

    def __init__(self, *args: Any, fault: Fault, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fault = fault

    def cursor(self, factory: Any = None) -> Any:
        """See `sqlite3.Connection.cursor`."""
        return super().cursor(Cursor)

    def execute(self, sql: str, *parameters: Any) -> Any:
        """See `sqlite3.Connection.execute`."""
        return self.cursor().execute(sql, *parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        """See `sqlite3.Connection.executemany`."""
        return self.cursor().executemany(sql, parameters)

    def commit(self) -> None:
        """Commit, as a caller's connection of aiosqlite does."""
        self.run_or_fail("COMMIT", super().commit)

    def run_or_fail(self, statement: str, run: Callable[[], Any], end: Callable[[], Any] = lambda: None) -> Any:
        """Run a statement, or fail it. end: finishes a statement that fails after its execution."""
        struck = self.fault.strikes([statement])
        kind = self.fault.kind
        if struck is None or kind is None:
            return run()
        if kind.after:
            run()
            end()
        if kind.undoes and self.in_transaction:
            # SQLite rolls back by itself when the disk is full: https://www.sqlite.org/lang_transaction.html
            sqlite3.Cursor.execute(super().cursor(sqlite3.Cursor), "ROLLBACK")
        if kind.error is not None:
            raise kind.error(f"injected: {kind.name}")
        error = sqlite3.OperationalError(f"injected: {kind.name}")
        error.sqlite_errorcode = kind.code
        raise error


class Cursor(sqlite3.Cursor):
    """A cursor whose statements can fail."""

    connection: Connection

    def execute(self, sql: str, *parameters: Any) -> Any:
        """See `sqlite3.Cursor.execute`."""
        return self.connection.run_or_fail(sql, partial(super().execute, sql, *parameters), super().fetchall)

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        """See `sqlite3.Cursor.executemany`."""
        return self.connection.run_or_fail(sql, partial(super().executemany, sql, parameters), super().fetchall)


class Driver:
    """Replaces the module `sqlite3` where the storage connects."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(self, *args: Any, **options: Any) -> sqlite3.Connection:
        """See `sqlite3.connect`."""
        return sqlite3.connect(*args, **options | {"factory": partial(Connection, fault=self._fault)})


class OnSqlite(Place):
    """A world in a file that is copied for each case."""

    name = "SQLite"
    kinds = (
        (
            Kind(name="disk failed before", code=sqlite3.SQLITE_IOERR),
            Kind(name="disk full before", code=sqlite3.SQLITE_FULL, undoes=True),
            Kind(name="locked", code=sqlite3.SQLITE_BUSY),
        ),
        (
            Kind(name="disk failed after", code=sqlite3.SQLITE_IOERR, after=True),
            Kind(name="disk full after", code=sqlite3.SQLITE_FULL, after=True, undoes=True),
        ),
    )

    def __init__(self, folder: Path, world: World, kept: Path) -> None:
        self.path = folder / "jobs.db"
        self.world = world
        self._kept = kept
        self._now = START

    @staticmethod
    async def prepare(kept: Path) -> World:
        """Make a file that contains the world."""
        clock = [START]

        async def set_clock(now: int) -> None:
            clock[0] = now

        async with _storage(kept, lambda: float(clock[0])) as storage:
            return await make(storage, set_clock)

    async def restore(self) -> None:
        """See `Place.restore`."""
        for file in self.path.parent.glob("jobs.db*"):
            file.unlink()
        shutil.copy(self._kept, self.path)
        self._now = START

    async def set_clock(self, now: int) -> None:
        """See `Place.set_clock`."""
        self._now = now

    @asynccontextmanager
    async def stage(self, fault: Fault, *, opened: bool, way: bool) -> AsyncIterator[Stage]:
        """See `Place.stage`."""
        storage, self.other = (_storage(self.path, lambda: float(self._now)) for _ in range(2))

        @asynccontextmanager
        async def caller(*, autocommit: bool = False) -> AsyncIterator[aiosqlite.Connection]:
            isolation = None if autocommit else "DEFERRED"
            factory: Any = partial(Connection, fault=fault)
            async with aiosqlite.connect(self.path, factory=factory, isolation_level=isolation) as connection:
                try:
                    await connection.execute("BEGIN IMMEDIATE")
                    yield connection
                    await connection.commit()
                except BaseException:
                    await connection.rollback()
                    raise

        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.other)  # before the storage with the fault opens
            stack.enter_context(mock.patch("jobq_storage_sqlite.connect.sqlite3", Driver(fault)))
            for module in ("control", "slices"):
                stack.enter_context(mock.patch(f"jobq_storage_sqlite.{module}.SLICE", CHUNK))
            stack.push_async_callback(storage.close)
            if opened:
                await storage.open()
            yield Stage(storage, self.other, self.world, caller, lambda: None)

    async def settled(self, stage: Stage) -> None:
        """See `Place.settled`. SQLite has no background work."""

    async def more(self) -> dict[str, Any]:
        """See `Place.more`."""
        with closing(sqlite3.connect(self.path)) as connection:
            return {
                "ended": connection.execute(
                    "SELECT id, state, failed IS NOT NULL FROM jobq_ended ORDER BY n"
                ).fetchall(),
                "leader": connection.execute("SELECT * FROM jobq_leader").fetchall(),
                "logs": connection.execute(
                    "SELECT n, lease, part, attempt, lines FROM jobq_log ORDER BY n, lease, part"
                ).fetchall(),
                "queues": connection.execute("SELECT * FROM jobq_queue ORDER BY queue").fetchall(),
                "started": connection.execute(
                    "SELECT n FROM jobq_life WHERE started_lease = lease AND state = 'processing'"
                ).fetchall(),
            }

    async def nothing_is_open(self) -> None:
        """See `Place.nothing_is_open`. Another writer gets the lock without waiting."""
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")


def _storage(path: Path, clock: Callable[[], float]) -> SqliteQueueStorage:
    storage = SqliteQueueStorage(path, synchronous="NORMAL")
    storage._clock = storage._uptime = clock
    return storage
