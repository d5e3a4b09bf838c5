"""The reader: its time limit, its connection, and its thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_core.testing import add_job
from jobq_storage_sqlite import SqliteQueueStorage, reader
from jobq_storage_sqlite.forks import ReadConnection
from jobq_storage_sqlite.sql import sql


def test_it_is_an_aiosqlite_connection_of_which_public_attributes_are_used_only() -> None:
    for file in Path(reader.__file__).parent.glob("*.py"):
        text = file.read_text()
        for private in ("._conn", "._execute", "._tx", "._thread.", "._running"):
            assert private not in text.replace("self._conn", "").replace("self._thread.", ""), file


async def test_a_read_that_takes_too_long_is_stopped(
    storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    assert storage._opened is not None
    with monkeypatch.context() as context:
        context.setattr(storage._opened.reader, "_limit", 0.3)
        context.setattr(reader, "sql", lambda name: endless)
        with pytest.raises(StorageUnavailableError, match=r"no answer within 0\.3 seconds"):
            await storage.counts()
    assert await storage.counts("default")


async def test_a_broken_connection_is_replaced_by_the_next_read(
    storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(aiosqlite.Connection):
        def execute_fetchall(self, *_: Any) -> Any:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

    job = await add_job(storage)
    with monkeypatch.context() as context:
        context.setattr(aiosqlite.Connection, "execute_fetchall", Failing.execute_fetchall)
        with pytest.raises(StorageUnavailableError, match="the disk failed"):
            await storage.get([job])
    assert [record.id for record in await storage.get([job]) if record] == [job]


async def test_the_thread_of_a_connection_that_fails_has_ended_before_the_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(connection: ReadConnection, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if "query_only" in statement:
            threads.append(threading.current_thread())
            raise sqlite3.OperationalError("disk I/O error")
        return sqlite3.Connection.execute(connection, statement, *parameters)

    def call_late(*arguments: Any) -> Any:
        if threading.current_thread() in threads:
            time.sleep(0.05)
        return call(*arguments)

    threads: list[threading.Thread] = []
    loop = asyncio.get_running_loop()
    call = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", call_late)
    monkeypatch.setattr(ReadConnection, "execute", execute)
    with pytest.raises(StorageError, match="disk I/O error"):
        await SqliteQueueStorage(path).open()
    assert [thread.is_alive() for thread in threads] == [False]


async def test_after_closing_it_says_so(path: Path) -> None:
    async with SqliteQueueStorage(path) as storage:
        assert storage._opened is not None
        rows = storage._opened.reader.rows
    with pytest.raises(ClosedError):
        await rows("counts")


async def test_it_cannot_write(storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    await add_job(storage)
    monkeypatch.setattr(reader, "sql", lambda name: "DELETE FROM jobq_job RETURNING id")
    with pytest.raises(Exception, match="readonly"):
        await storage.counts()


def test_names_of_statements_are_told_apart() -> None:
    assert sql("get") != sql("get_status")


async def test_a_connection_that_the_end_of_the_main_thread_stops_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Thread(target=int)
    ended.start()
    reading, read = threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        reading.set()
        read.wait()

    storage = SqliteQueueStorage(path)
    await storage.open()
    assert storage._opened is not None
    connection = storage._opened.reader._connection
    assert connection is not None
    await connection.create_function("wait", 0, wait)
    busy = asyncio.create_task(connection.execute_fetchall("SELECT wait()"))
    await asyncio.to_thread(reading.wait)
    with monkeypatch.context() as context:
        context.setattr(threading, "main_thread", lambda: ended)
        # In a thread without an event loop, as at the end: here, the stop would be told to this loop, perhaps too late.
        await asyncio.to_thread(reader._stop_all)
    async with asyncio.timeout(30):
        await storage.close()
    read.set()
    await busy
