"""Operations in a transaction of the caller: which `connection` is accepted, and how it is used.

Only public methods of an aiosqlite connection are used, and each of them runs one statement. So adding is a generator
of statements; other operations, which are functions of a Transaction as the writer's are, run in threads of their own.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import aiosqlite

from jobq_core.caller_connections import Accepted
from jobq_core.caller_thread import call_in_caller
from jobq_core.errors import ConfigurationError
from jobq_core.storage import Added, NewJob
from jobq_storage_sqlite.adding_steps import Step, steps_of_adding
from jobq_storage_sqlite.boot_clock import Moment
from jobq_storage_sqlite.caller_cursors import AiosqliteCursors, Cursors, SqliteCursors
from jobq_storage_sqlite.columns import to_text
from jobq_storage_sqlite.errors import as_raised
from jobq_storage_sqlite.spans import Span, StoredSpans
from jobq_storage_sqlite.transaction import Transaction

T = TypeVar("T")

Steps: TypeAlias = "Generator[Step | Callable[[], Any], Any, T]"
"""What an operation consists of: statements (see `adding_steps`), and calls that are answered by their value."""

_ACCEPTED: Final = Accepted(waits="an aiosqlite.Connection", blocks="a sqlite3.Connection")


async def add_within(given: Any, path: Path, clock: Callable[[], Moment], jobs: Sequence[NewJob]) -> list[Added]:
    """Add jobs in the transaction of a connection; see `run_within`."""
    return await _run(given, path, lambda cursors: _in_transaction(cursors, _adding(jobs, clock().now)))


async def run_within(given: Any, path: Path, clock: Callable[[], Moment], work: Callable[[Transaction], T]) -> T:
    """Run an operation in the transaction of a connection, which the caller commits or rolls back.

    Raises ConfigurationError for a connection of another kind, to another file, or without a transaction.
    """

    def write(cursors: Cursors) -> T:
        transaction = Transaction(cursors, clock(), {}, StoredSpans())
        answer = work(transaction)
        transaction.flush()
        return answer

    return await _run(given, path, lambda cursors: _in_transaction(cursors, _one(partial(write, cursors))))


async def read_within(given: Any, path: Path, name: str, parameters: Any) -> list[Any]:
    """Run a statement that reads, in the transaction of a connection if there is one, and return its rows."""
    return await _run(given, path, lambda _: _one((name, parameters)))


async def _run(given: Any, path: Path, make: Callable[[Cursors], Steps[T]]) -> T:
    caller = await _ACCEPTED.unwrap(given)
    driver = caller.driver
    try:
        if isinstance(driver, aiosqlite.Connection):
            _ACCEPTED.check_waits(given)
            waiting = AiosqliteCursors(driver, asyncio.get_running_loop())
            await waiting.open()
            return await _shielded(_drive(_steps(waiting, path, make(waiting)), waiting))
        if isinstance(driver, sqlite3.Connection):
            _ACCEPTED.check_blocks(given)
            blocking = SqliteCursors(driver)
            steps = _steps(blocking, path, make(blocking))
            return await call_in_caller(partial(_drive_sync, steps, blocking, caller.scope))
    except (sqlite3.Error, OverflowError) as error:
        raise as_raised(error, str(path)) from error
    raise _ACCEPTED.refuse(given)


def _steps(cursors: Cursors, path: Path, operation: Steps[T]) -> Steps[T]:
    """Check the file, and read text as the storage does, whatever the caller's text factory is."""
    factory = cursors.text_factory
    try:
        cursors.text_factory = os.fsdecode
        _check_file((yield "list_files", ()), path)
        cursors.text_factory = to_text
        return (yield from operation)
    finally:
        cursors.text_factory = factory


def _in_transaction(cursors: Cursors, operation: Steps[T]) -> Steps[T]:
    """Let an operation that fails undo its own changes only."""
    if not cursors.in_transaction:
        _check_begins(cursors)
        yield "begin", ()  # Python's sqlite3 begins a transaction, too, before the first change
    yield "set_savepoint", ()
    try:
        answer = yield from operation
    except BaseException:
        if cursors.in_transaction:
            yield "undo_to_savepoint", ()
            yield "release_savepoint", ()
        raise
    yield "release_savepoint", ()
    return answer


def _adding(jobs: Sequence[NewJob], now: int) -> Steps[list[Added]]:
    ((last, _),) = yield "read_sequence", ()
    topics: set[str] = set()
    spans: set[Span] = set()
    added = yield from steps_of_adding(jobs, last + 1, now, topics, spans)
    yield "advance_sequence", (last + len(jobs),)
    yield "insert_span", sorted(spans)
    for topic in sorted(topics):
        yield "notify", (topic,)
    return added


def _one(step: Step | Callable[[], T]) -> Steps[Any]:
    return (yield step)


def _check_file(rows: list[Any], path: Path) -> None:
    files = {name: file for _, name, file in rows}
    if not files["main"] or not _is_same(files["main"], path):
        raise ConfigurationError(
            f"connection= is to {files['main'] or 'a database in memory'}, and the jobs are in {path}"
        )


def _is_same(file: str, path: Path) -> bool:
    try:
        return path.samefile(file)
    except OSError:
        return False


def _check_begins(cursors: Cursors) -> None:
    if cursors.is_autocommit:
        raise ConfigurationError(
            "connection= has no open transaction and commits each statement by itself; execute BEGIN IMMEDIATE first"
        )


def _drive_sync(steps: Steps[T], cursors: SqliteCursors, scope: Callable[[], AbstractContextManager[Any]]) -> T:
    with scope():
        try:
            step = next(steps)
            while True:
                try:
                    answer = cursors.carry_out(step) if isinstance(step, tuple) else step()
                except BaseException as error:  # noqa: BLE001  (raised in the generator)
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            value: T = end.value
            return value


async def _drive(steps: Steps[T], cursors: AiosqliteCursors) -> T:
    try:
        step = next(steps)
        while True:
            try:
                answer = await (cursors.carry_out_here(step) if isinstance(step, tuple) else _in_thread(step))
            except BaseException as error:  # noqa: BLE001  (raised in the generator)
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value


async def _in_thread(call: Callable[[], T]) -> T:
    """Make a call in a thread of its own: those of a pool could all wait for the lock of another call's transaction."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001  (raised by the caller)
            answer.set_exception(error)

    threading.Thread(target=run, name="jobq-sqlite-caller", daemon=True).start()
    return await asyncio.wrap_future(answer)


async def _shielded(work: Coroutine[Any, Any, T]) -> T:
    """Do this to its end, even if the caller is cancelled: it must not commit before the operation is whole."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    answer = task.result()
    if cancelled is not None:
        raise cancelled
    return answer
