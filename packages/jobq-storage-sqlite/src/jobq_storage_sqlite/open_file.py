"""What an open storage consists of, and what its facets share."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from jobq_core.errors import ClosedError, StorageError
from jobq_core.timestamps import SECOND
from jobq_storage_sqlite.boot_clock import Moment
from jobq_storage_sqlite.change_watcher import ChangeWatcher
from jobq_storage_sqlite.file_identity import FileIdentity
from jobq_storage_sqlite.file_warnings import FileWarnings, LogGrowth
from jobq_storage_sqlite.group_commit import GroupCommit, Work
from jobq_storage_sqlite.notifier import SqliteNotifier
from jobq_storage_sqlite.reader import Reader, write_nothing
from jobq_storage_sqlite.writer import Writer

T = TypeVar("T")
Connect = Callable[[], sqlite3.Connection]

GRACE_SECONDS: Final = 30.0
"""How long a call may take beyond its wait for locks."""


class OpenFile:
    """The writer, the reader and the change watcher of one file, and the notifier that joins them.

    path: absolute.
    """

    def __init__(
        self,
        path: Path,
        connect_writer: Connect,
        connect_reader: Connect,
        clock: Callable[[], Moment],
        busy_timeout: float,
    ) -> None:
        self.pid = os.getpid()
        self.warnings = FileWarnings()
        self.notifier = SqliteNotifier()
        limit = busy_timeout + GRACE_SECONDS
        commits = GroupCommit(
            str(path),
            FileIdentity(path, connect_writer, self.warnings),
            LogGrowth(path, self.warnings),
            clock,
            busy_timeout,
        )
        self.writer = Writer(str(path), commits, limit, self.notifier)
        self.reader = Reader(str(path), FileIdentity(path, connect_reader, self.warnings), self.writer, limit)
        self._watcher = ChangeWatcher(path, FileIdentity(path, connect_reader, self.warnings), self.notifier)

    async def connect(self) -> None:
        """Connect the writer and the reader. Raises StorageError."""
        await self.writer.call(write_nothing)
        await self.reader.open()

    async def close(self) -> None:
        """End the subscriptions, finish the operations under way, and close all connections."""
        self.notifier.close()
        await self.writer.close()
        await self.reader.close()
        await self._watcher.close()


class StorageOnFile:
    """What the facets of a storage share: the open file."""

    path: Path
    _opened: OpenFile | None
    _clock: Callable[[], float]
    _uptime: Callable[[], float]

    def _moment(self) -> Moment:
        """Read both clocks."""
        return Moment(int(self._clock() * SECOND), int(self._uptime() * SECOND))

    def _file(self) -> OpenFile:
        """Return the open file. Raises ClosedError; StorageError in a forked child, where the threads are missing."""
        if self._opened is None:
            raise ClosedError(
                f"the SQLite storage {self.path} is not open: use it inside `async with`, or call open() first"
            )
        if self._opened.pid != os.getpid():
            raise StorageError(
                f"the SQLite storage {self.path} was opened before this process was forked; open one of its own here"
            )
        return self._opened

    def _write(self, work: Work[T]) -> Awaitable[T]:
        """Run an operation in the writer."""
        return self._file().writer.call(work)

    def _read(self, name: str, **parameters: Any) -> Awaitable[list[Any]]:
        """Run the statement of this name in the reader, and return its rows."""
        return self._file().reader.rows(name, **parameters)
