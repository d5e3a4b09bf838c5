"""Adding jobs inside the caller's own transaction, on the caller's own connection."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobq_core.errors import ConfigurationError
from jobq_core.storage import Added, NewJob
from jobq_storage_sqlite.adding import add
from jobq_storage_sqlite.boot_clock import Moment
from jobq_storage_sqlite.errors import translate
from jobq_storage_sqlite.transaction import Transaction


async def add_within(connection: Any, path: Path, clock: Callable[[], Moment], jobs: Sequence[NewJob]) -> list[Added]:
    """Add jobs in the transaction of an aiosqlite connection, which the caller commits or rolls back.

    Raises ConfigurationError for a connection of another kind, to another file, or without a transaction.
    """
    # Whoever holds a connection of aiosqlite has imported it; nobody else needs to have it installed.
    aiosqlite = sys.modules.get("aiosqlite")
    if aiosqlite is None or not isinstance(connection, aiosqlite.Connection):
        raise ConfigurationError(
            f"SQLite storage {path} adds within a transaction of an aiosqlite.Connection to the same file, "
            f"not of {type(connection).__module__}.{type(connection).__qualname__}"
        )
    try:
        driver = connection._conn
    except ValueError as error:
        raise ConfigurationError("the aiosqlite.Connection given to add() is not open") from error
    try:
        # One hop into the connection's thread for all statements: a caller who is cancelled in between cannot leave
        # some of the jobs in his transaction and not the others. aiosqlite's public methods run one statement each.
        added: list[Added] = await connection._execute(_add, driver, path, clock, jobs)
    except sqlite3.Error as error:
        raise translate(error, str(path)) from error
    return added


def _add(
    connection: sqlite3.Connection, path: Path, clock: Callable[[], Moment], jobs: Sequence[NewJob]
) -> list[Added]:
    factory, connection.text_factory = connection.text_factory, str
    try:
        cursor = connection.cursor()
        cursor.row_factory = None
        _check_file(cursor, path)
        _begin(connection)
        return _add_whole(connection, cursor, clock, jobs)
    finally:
        connection.text_factory = factory


def _begin(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        return
    if connection.isolation_level is None or getattr(connection, "autocommit", None) is True:
        raise ConfigurationError(
            "the connection given to add() has no open transaction and commits each statement by itself; "
            "execute BEGIN IMMEDIATE first"
        )
    # As Python's sqlite3 begins one before the first change.
    connection.execute("BEGIN IMMEDIATE")


def _add_whole(
    connection: sqlite3.Connection, cursor: sqlite3.Cursor, clock: Callable[[], Moment], jobs: Sequence[NewJob]
) -> list[Added]:
    cursor.execute("SAVEPOINT jobq_add")
    try:
        transaction = Transaction(cursor, clock())
        added = add(transaction, jobs)
        transaction.flush()
    except BaseException:
        if connection.in_transaction:
            cursor.execute("ROLLBACK TO jobq_add")
            cursor.execute("RELEASE jobq_add")
        raise
    cursor.execute("RELEASE jobq_add")
    return added


def _check_file(cursor: sqlite3.Cursor, path: Path) -> None:
    file = next((row[2] for row in cursor.execute("PRAGMA database_list") if row[1] == "main"), "")
    if not file or not _same(file, path):
        raise ConfigurationError(
            f"the connection given to add() is to {file or 'a database in memory'}, the jobs are in {path}"
        )


def _same(file: str, path: Path) -> bool:
    try:
        return path.samefile(file)
    except OSError:
        return False
