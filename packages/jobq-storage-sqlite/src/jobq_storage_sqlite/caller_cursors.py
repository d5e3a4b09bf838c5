"""Connections of callers, as a Transaction uses them: sqlite3's, and aiosqlite's from another thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Coroutine, Iterator
from typing import Any, Generic, Protocol, TypeVar

import aiosqlite

from jobq_core.errors import ConfigurationError
from jobq_storage_sqlite.adding_steps import Step
from jobq_storage_sqlite.sql import sql

T = TypeVar("T")
C = TypeVar("C", bound="sqlite3.Connection | aiosqlite.Connection")


class Rows(Protocol):
    """What is used of a cursor that ran a statement."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Runner(Protocol):
    """What a Transaction uses of a connection."""

    @property
    def in_transaction(self) -> bool: ...
    def execute(self, statement: str, parameters: Any = (), /) -> Rows: ...
    def executemany(self, statement: str, rows: Any, /) -> Rows: ...


class Cursors(Runner, Protocol):
    """A connection of a caller. Rows are tuples, whatever the caller's row factory is."""

    text_factory: Any

    @property
    def is_autocommit(self) -> bool:
        """Whether each statement outside of a transaction is committed by itself."""
        ...


class _Connected(Generic[C]):
    """What both connections have."""

    def __init__(self, connection: C) -> None:
        self._connection = connection

    @property
    def text_factory(self) -> Any:
        return self._connection.text_factory

    @text_factory.setter
    def text_factory(self, factory: Any) -> None:
        self._connection.text_factory = factory

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction


class SqliteCursors(_Connected[sqlite3.Connection]):
    """A sqlite3.Connection."""

    @property
    def is_autocommit(self) -> bool:
        # The attribute came with Python 3.12.
        return self._connection.isolation_level is None or getattr(self._connection, "autocommit", None) is True

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        return self._cursor().execute(statement, parameters)

    def executemany(self, statement: str, rows: Any, /) -> sqlite3.Cursor:
        return self._cursor().executemany(statement, rows)

    def carry_out(self, step: Step) -> Any:
        """Run a statement, and answer it as `Transaction.carry_out` does."""
        name, parameters = step
        if isinstance(parameters, list):
            return self.executemany(sql(name), parameters).rowcount
        return self.execute(sql(name), parameters).fetchall()

    def _cursor(self) -> sqlite3.Cursor:
        try:
            cursor = self._connection.cursor()
        except sqlite3.ProgrammingError as error:
            raise ConfigurationError(f"connection= cannot be used: {error}") from error
        cursor.row_factory = None
        return cursor


class AiosqliteCursors(_Connected[aiosqlite.Connection]):
    """An aiosqlite.Connection, used in a thread that is not its event loop's."""

    def __init__(self, connection: aiosqlite.Connection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(connection)
        self._loop = loop
        self._cursor: aiosqlite.Cursor | None = None

    async def open(self) -> None:
        """Open the cursor that runs the statements. Raises ConfigurationError for a closed connection."""
        try:
            self._cursor = await self._connection.cursor()
        except ValueError as error:
            raise ConfigurationError("connection= is closed: pass an open connection") from error
        self._cursor.row_factory = None

    @property
    def is_autocommit(self) -> bool:
        return self._connection.isolation_level is None

    def execute(self, statement: str, parameters: Any = (), /) -> FetchedRows:
        return self._wait(self._run_one(statement, parameters))

    def executemany(self, statement: str, rows: Any, /) -> FetchedRows:
        return self._wait(self._run_many(statement, rows))

    async def carry_out_here(self, step: Step) -> Any:
        """Run a statement on the event loop, and answer it as `Transaction.carry_out` does."""
        name, parameters = step
        if isinstance(parameters, list):
            return (await self._run_many(sql(name), parameters)).rowcount
        return (await self._run_one(sql(name), parameters)).fetchall()

    async def _run_one(self, statement: str, parameters: Any) -> FetchedRows:
        cursor = self._cursor
        assert cursor is not None
        await cursor.execute(statement, parameters)
        description: Any = cursor.description  # None after a statement without rows
        return FetchedRows(cursor.rowcount, [] if description is None else list(await cursor.fetchall()))

    async def _run_many(self, statement: str, rows: Any) -> FetchedRows:
        cursor = self._cursor
        assert cursor is not None
        await cursor.executemany(statement, rows)
        return FetchedRows(cursor.rowcount, [])

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class FetchedRows:
    """The rows of a statement, which were all read."""

    def __init__(self, rowcount: int, rows: list[Any]) -> None:
        self.rowcount = rowcount
        self._rows = rows

    def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[Any]:
        return self._rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)
