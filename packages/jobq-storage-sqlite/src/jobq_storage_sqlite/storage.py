"""`SqliteQueueStorage`: the contract on one file, by one mixin per facet."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path, PurePath
from typing import ClassVar, Final, Literal, Self
from urllib.parse import quote, unquote_to_bytes

from jobq_core.checks import check_bool, check_positive_seconds
from jobq_core.encoding import is_unicode
from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr
from jobq_core.storage import Phase, QueueStorage
from jobq_core.timestamps import to_datetime
from jobq_storage_sqlite import migrations
from jobq_storage_sqlite.adding import Adding
from jobq_storage_sqlite.altering import Altering
from jobq_storage_sqlite.boot_clock import uptime
from jobq_storage_sqlite.connect import connect
from jobq_storage_sqlite.control import Control
from jobq_storage_sqlite.depths import Depths
from jobq_storage_sqlite.diagnosis import Diagnosis
from jobq_storage_sqlite.errors import translate
from jobq_storage_sqlite.finding import Finding
from jobq_storage_sqlite.forks import gate
from jobq_storage_sqlite.logs import Logs
from jobq_storage_sqlite.maintenance import Maintenance
from jobq_storage_sqlite.open_file import OpenFile
from jobq_storage_sqlite.operations import Operations
from jobq_storage_sqlite.reading import Reading
from jobq_storage_sqlite.settle_and_claim import SettlingAndClaiming
from jobq_storage_sqlite.sql import statements
from jobq_storage_sqlite.statistics import Statistics
from jobq_storage_sqlite.subscription import SqliteSubscription
from jobq_storage_sqlite.worker_requests import WorkerRequests
from jobq_storage_sqlite.workers import Workers

Synchronous = Literal["FULL", "EXTRA", "NORMAL"]

_SYNCHRONOUS: Final = ("FULL", "EXTRA", "NORMAL")

_of_parents: Final[list[OpenFile]] = []
"""Files that a forked child inherited and closed. They are kept, since aiosqlite warns when one is collected."""


class SqliteQueueStorage(
    Adding,
    SettlingAndClaiming,
    Workers,
    Reading,
    Finding,
    Depths,
    Statistics,
    Control,
    Altering,
    Operations,
    WorkerRequests,
    Logs,
    Maintenance,
    Diagnosis,
    QueueStorage,
):
    """Jobs in an SQLite file, for the processes of one machine.

    path: the file. `open()` creates it if it is missing, but not its folder. A relative path starts from the working
        directory at the time when the storage is made, whatever the process changes to later.
    synchronous: 'FULL' (default) keeps what was acknowledged through a loss of power. 'NORMAL' is quicker and may then
        lose the last commits. 'EXTRA' is slower. A killed process loses nothing with any of them.
    busy_timeout: seconds to wait for another process's transaction (default 10); then StorageUnavailableError.
    migrate: whether `open()` creates the tables in a file without them, and applies the migrations that are safe while
        older code uses the file (default: True). If False, SchemaError names `jobq migrate`. A newer schema is refused
        once it has 'post' migrations that this code does not know.

    Raises ConfigurationError for a path or an option that cannot work.
    """

    schemes: ClassVar[tuple[str, ...]] = ("sqlite",)

    def __init__(
        self, path: str | Path, *, synchronous: Synchronous = "FULL", busy_timeout: float = 10.0, migrate: bool = True
    ) -> None:
        _check_path(path)
        if synchronous not in _SYNCHRONOUS:
            raise ConfigurationError(
                f"synchronous must be one of {', '.join(_SYNCHRONOUS)}, not {short_repr(synchronous)}"
            )
        self.path = Path(path).absolute()
        self.synchronous = synchronous
        self.busy_timeout = check_positive_seconds(busy_timeout, "busy_timeout")
        self._migrate_at_open = check_bool(migrate, "migrate")
        self._clock, self._uptime = time.time, uptime
        self._opening = asyncio.Lock()
        self._opened: OpenFile | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make a storage from `sqlite:///jobs.db` (relative) or `sqlite:////var/lib/jobs.db` (absolute)."""
        return cls(_path_of(url))

    @property
    def url(self) -> str:
        """The URL of the file, by its absolute path."""
        return f"sqlite:///{quote(os.fsencode(self.path))}"

    @property
    def warnings(self) -> tuple[str, ...]:
        return () if self._opened is None else self._opened.warnings.current

    def keep_schema(self) -> None:
        self._migrate_at_open = False

    async def open(self) -> None:
        _refuse_eventlet()
        async with self._opening:
            if self._opened is not None:
                return
            await asyncio.to_thread(self._prepare)
            opened = OpenFile(
                self.path, self._connect_writer, partial(self._connect, reads=True), self._moment, self.busy_timeout
            )
            try:
                await opened.connect()
            except BaseException:
                await opened.close()
                raise
            self._opened = opened

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is None:
            return
        if opened.pid != os.getpid():
            # In a forked child: the threads are the parent's. `close_inherited` closes the connections.
            _of_parents.append(opened)
            return
        await opened.close()

    async def migrate(self, phase: Phase = "all") -> list[str]:
        return await asyncio.to_thread(self._migrate, phase)

    def migration_sql(self) -> str:
        return migrations.migration_sql()

    async def now(self) -> datetime:
        """Return the time of the machine's clock, which all processes that can open the file share."""
        self._file()
        return to_datetime(self._moment().now)

    def subscribe(self, topics: Iterable[str]) -> SqliteSubscription:
        file = self._file()
        return SqliteSubscription(topics, file.notifier, file.reader)

    def _prepare(self) -> None:
        statements()  # read now: an upgrade may replace the package's folder while this process runs
        try:
            with gate.lock, closing(self._connect(create=self._migrate_at_open)) as connection:
                if self._migrate_at_open and not migrations.is_complete(connection, str(self.path)):
                    migrations.apply(connection, str(self.path), "pre")
                migrations.require(connection, str(self.path))
        except sqlite3.Error as error:
            raise translate(error, str(self.path)) from error

    def _migrate(self, phase: Phase) -> list[str]:
        try:
            with gate.lock, closing(self._connect(create=True)) as connection:
                return migrations.apply(connection, str(self.path), phase)
        except sqlite3.Error as error:
            raise translate(error, str(self.path)) from error

    def _connect(self, *, create: bool = False, reads: bool = False) -> sqlite3.Connection:
        return connect(self.path, self.synchronous, self.busy_timeout, create=create, reads=reads)

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            # GroupCommit asks for the lock more often than SQLite would, and gives up on each call at its own time.
            connection.execute("PRAGMA busy_timeout = 0")
        except BaseException:
            connection.close()
            raise
        return connection


def _check_path(path: str | PurePath) -> None:
    """Raise ConfigurationError unless this names a file."""
    if not isinstance(path, (str, PurePath)):
        raise ConfigurationError(f"the path of a file must be text or a pathlib.Path, not {short_repr(path)}")
    if str(path) in ("", ".", ":memory:") or str(path).startswith("file:"):
        raise ConfigurationError(
            f"SQLite storage needs a file that several connections can open, not {short_repr(str(path))}; "
            "for jobs in memory use memory:// (MemoryQueueStorage)"
        )
    if "\0" in str(path):
        raise ConfigurationError("the name of a file cannot have a NUL character in it")
    _encoded(path)


def _encoded(path: str | PurePath) -> bytes:
    """Return the bytes of a file's name. Raises ConfigurationError if it cannot be the name of a file."""
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        raise ConfigurationError("the name of a file cannot have a lone surrogate in it") from None


def _path_of(url: str) -> str:
    """Return the path that a URL names. Raises ConfigurationError."""
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite":
        raise ConfigurationError("this URL is not of an SQLite storage; write sqlite:///jobs.db")
    if rest in ("", "/", ":memory:", "/:memory:"):
        raise ConfigurationError(
            f"{url!r} names no file; write sqlite:///jobs.db, or memory:// for jobs in this process's memory"
        )
    if not rest.startswith("/"):
        # A text that may hold a password is not repeated.
        file = rest if is_unicode(rest) and not {"@", "?"} & set(rest) else "jobs.db"
        raise ConfigurationError(
            f"this URL names a host, and SQLite has none; write sqlite:///{file} with three slashes"
        )
    if "?" in rest or "#" in rest:
        raise ConfigurationError(
            "this URL has options, and a sqlite:// URL takes none; write a ? or # in a name as %3F or %23"
        )
    # By way of bytes, since the name of a file need not be UTF-8.
    return os.fsdecode(unquote_to_bytes(_encoded(rest[1:])))


def _refuse_eventlet() -> None:
    """Raise ConfigurationError if eventlet has replaced threads: it does not replace the queues of aiosqlite."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        raise ConfigurationError("SQLite storage does not work under eventlet: use gevent, threads or PostgreSQL")
