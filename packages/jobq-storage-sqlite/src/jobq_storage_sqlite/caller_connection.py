"""Adding jobs inside the caller's own transaction, on the caller's own aiosqlite connection.

Only public methods of the connection are used; each runs one statement. They run in a task that is not cancelled with
its caller, so that a batch is in the transaction as a whole or not at all.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiosqlite

from jobq_core.errors import ConfigurationError
from jobq_core.storage import Added, NewJob
from jobq_storage_sqlite.adding_steps import steps_of_adding
from jobq_storage_sqlite.boot_clock import Moment
from jobq_storage_sqlite.errors import translate
from jobq_storage_sqlite.spans import Span
from jobq_storage_sqlite.sql import sql


async def add_within(connection: Any, path: Path, clock: Callable[[], Moment], jobs: Sequence[NewJob]) -> list[Added]:
    """Add jobs in the transaction of an aiosqlite connection, which the caller commits or rolls back.

    Raises ConfigurationError for a connection of another kind, to another file, or without a transaction.
    """
    if not isinstance(connection, aiosqlite.Connection):
        raise ConfigurationError(
            f"SQLite storage {path} adds within a transaction of an aiosqlite.Connection to the same file, "
            f"not of {type(connection).__module__}.{type(connection).__qualname__}"
        )
    task = asyncio.create_task(_add(connection, path, clock, jobs))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error  # the caller must not commit before the batch is whole
    try:
        added = task.result()
    except sqlite3.Error as error:
        raise translate(error, str(path)) from error
    if cancelled is not None:
        raise cancelled
    return added


async def _add(
    connection: aiosqlite.Connection, path: Path, clock: Callable[[], Moment], jobs: Sequence[NewJob]
) -> list[Added]:
    try:
        cursor = await connection.cursor()
    except ValueError as error:
        raise ConfigurationError("the aiosqlite.Connection given to add() is not open") from error
    cursor.row_factory = None
    await _check_file(cursor, path)
    await _begin(connection)
    await cursor.execute("SAVEPOINT jobq_add")
    try:
        added = await _carry_out(cursor, clock().now, jobs)
    except BaseException:
        if connection.in_transaction:
            await cursor.execute("ROLLBACK TO jobq_add")
            await cursor.execute("RELEASE jobq_add")
        raise
    await cursor.execute("RELEASE jobq_add")
    return added


async def _check_file(cursor: aiosqlite.Cursor, path: Path) -> None:
    await cursor.execute("PRAGMA database_list")
    # Text is bytes, if the caller's text factory says so.
    files = {os.fsdecode(name): os.fsdecode(file or "") for _, name, file in await cursor.fetchall()}
    if not files["main"] or not _is_same(files["main"], path):
        raise ConfigurationError(
            f"the connection given to add() is to {files['main'] or 'a database in memory'}, the jobs are in {path}"
        )


def _is_same(file: str, path: Path) -> bool:
    try:
        return path.samefile(file)
    except OSError:
        return False


async def _begin(connection: aiosqlite.Connection) -> None:
    if connection.in_transaction:
        return
    if connection.isolation_level is None:
        raise ConfigurationError(
            "the connection given to add() has no open transaction and commits each statement by itself; "
            "execute BEGIN IMMEDIATE first"
        )
    # Python's sqlite3 begins one, too, before the first change.
    await connection.execute("BEGIN IMMEDIATE")


async def _carry_out(cursor: aiosqlite.Cursor, now: int, jobs: Sequence[NewJob]) -> list[Added]:
    ((last, _),) = await _rows(cursor, "read_sequence", ())
    topics: set[str] = set()
    spans: set[Span] = set()
    steps = steps_of_adding(jobs, last + 1, now, topics, spans)
    answer: Any = None
    while True:
        try:
            name, parameters = steps.send(answer)
        except StopIteration as end:
            await _rows(cursor, "advance_sequence", (last + len(jobs),))
            await cursor.executemany(sql("insert_span"), sorted(spans))
            for topic in sorted(topics):
                await _rows(cursor, "notify", (topic,))
            added: list[Added] = end.value
            return added
        if isinstance(parameters, list):
            await cursor.executemany(sql(name), parameters)
            answer = cursor.rowcount
        else:
            answer = await _rows(cursor, name, parameters)


async def _rows(cursor: aiosqlite.Cursor, name: str, parameters: Any) -> list[Any]:
    await cursor.execute(sql(name), parameters)
    return list(await cursor.fetchall())
