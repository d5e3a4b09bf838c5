"""The reader: an aiosqlite connection, beside the writer.

Each read is one statement, and so a snapshot of its own.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
import weakref
from typing import Any, Final

import aiosqlite

from jobq_core.errors import ClosedError, StorageUnavailableError
from jobq_storage_sqlite.errors import as_raised, breaks_connection
from jobq_storage_sqlite.file_identity import FileIdentity
from jobq_storage_sqlite.sql import sql
from jobq_storage_sqlite.transaction import Transaction
from jobq_storage_sqlite.writer import Writer

_CHUNK: Final = 64
"""How many rows aiosqlite hands over at a time where it iterates; nothing here iterates."""

MATCHED_SECONDS: Final = 0.1
"""How long a comparison of the files' inodes is good for reads; one takes as long as a read of a job's status."""


class Reader:
    """Runs statements that read. seconds: the time limit of each."""

    def __init__(self, path: str, identity: FileIdentity, writer: Writer, seconds: float) -> None:
        self._path = path
        self._identity = identity
        self._writer = writer
        self._limit = seconds
        self._changing = asyncio.Lock()
        self._connection: aiosqlite.Connection | None = None
        self._closed = False
        self._matched_at = float("-inf")

    async def rows(self, name: str, **parameters: Any) -> list[Any]:
        """Run the statement of this name and return its rows. Raises StorageUnavailableError at the time limit."""
        connection = await self._connected()
        now = time.monotonic()
        if now - self._matched_at > MATCHED_SECONDS:
            if not self._identity.matches():
                # The writer raises what is wrong, and saves what can be lost. If the files are back, it does not raise.
                await self._writer.call(write_nothing)
            self._matched_at = now
        try:
            async with asyncio.timeout(self._limit):
                return list(await connection.execute_fetchall(sql(name), parameters))
        except TimeoutError:
            await connection.interrupt()
            raise StorageUnavailableError(
                f"SQLite file {self._path}: no answer within {self._limit:g} seconds"
            ) from None
        except sqlite3.Error as error:
            if breaks_connection(error):
                await self._disconnect(connection)
            raise as_raised(error, self._path) from error
        except ValueError as error:
            raise ClosedError(f"the SQLite storage {self._path} is closed") from error

    async def open(self) -> None:
        """Connect. Raises StorageError."""
        await self._connected()

    async def close(self) -> None:
        """Finish the reads under way and close the connection."""
        self._closed = True
        if self._connection is not None:
            await self._disconnect(self._connection)

    async def _connected(self) -> aiosqlite.Connection:
        if self._connection is not None:
            return self._connection
        async with self._changing:
            if self._closed:
                raise ClosedError(f"the SQLite storage {self._path} is closed")
            if self._connection is None:
                self._connection = await self._connect()
                _stop_at_exit(self._connection)
            return self._connection

    async def _connect(self) -> aiosqlite.Connection:
        threads: list[threading.Thread] = []

        def open_file() -> sqlite3.Connection:
            threads.append(threading.current_thread())
            return self._identity.open()

        try:
            return await aiosqlite.Connection(open_file, _CHUNK)
        except Exception as error:
            # aiosqlite tells its thread to end and does not wait for it. A thread that outlives the event loop prints a
            # traceback.
            for thread in threads:
                await asyncio.to_thread(thread.join)
            if isinstance(error, sqlite3.Error):
                raise as_raised(error, self._path) from error
            raise

    async def _disconnect(self, connection: aiosqlite.Connection) -> None:
        async with self._changing:
            if self._connection is connection:
                self._connection = None
                # A connection that the end of the main thread has stopped answers nothing any more.
                if _open.pop(id(connection), None) is not None:
                    await connection.close()


def write_nothing(transaction: Transaction) -> None:
    """Begin and commit an empty transaction."""


_open: weakref.WeakValueDictionary[int, aiosqlite.Connection] = weakref.WeakValueDictionary()
"""The open connections by their `id`. The code that takes one out ends it. No lock guards them: a forked child could
inherit it locked."""
_lock = threading.Lock()
_exit_pid = 0
"""The process that has the thread which stops the connections."""


def _stop_at_exit(connection: aiosqlite.Connection) -> None:
    """Have the connection's thread end with the main thread: it is not a daemon, and would hang the interpreter's exit
    if the storage was never closed."""
    global _exit_pid
    with _lock:
        _open[id(connection)] = connection
        if _exit_pid != os.getpid():
            _exit_pid = os.getpid()
            threading.Thread(target=_stop_all, name="jobq-sqlite-exit", daemon=True).start()


def _stop_all() -> None:
    threading.main_thread().join()
    for key in list(_open):
        connection = _open.pop(key, None)
        if connection is not None:
            connection.stop()
