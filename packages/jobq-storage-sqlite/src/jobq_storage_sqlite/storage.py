"""`SqliteQueueStorage`: the contract over one file, its writer, its reader and its notifier."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Any, ClassVar, Final, Literal, Self
from urllib.parse import quote, unquote_to_bytes
from uuid import UUID

from jobq_core.checks import check_bool, check_positive_seconds
from jobq_core.encoding import is_unicode
from jobq_core.errors import ClosedError, ConfigurationError
from jobq_core.records import JobRecord, WorkerInfo, WorkerRecord
from jobq_core.reprs import short_repr
from jobq_core.states import JobState
from jobq_core.storage import (
    Added,
    Change,
    Claim,
    ClaimedJob,
    JobFilter,
    JobStatus,
    Leadership,
    LeaseStatus,
    LostWorker,
    NewJob,
    Page,
    ProgressReport,
    Promotion,
    QueueStorage,
    Retention,
    SettleAndClaimResult,
    Settlement,
)
from jobq_core.timestamps import SECOND, to_datetime
from jobq_storage_sqlite import adding, control, maintenance, migrations, reading, settle_and_claim, workers
from jobq_storage_sqlite.boot_clock import Moment, uptime
from jobq_storage_sqlite.caller_connection import add_within
from jobq_storage_sqlite.change_watcher import ChangeWatcher
from jobq_storage_sqlite.connect import Look, connect
from jobq_storage_sqlite.errors import translate
from jobq_storage_sqlite.file_identity import FileIdentity, Notes
from jobq_storage_sqlite.heartbeat import SqliteHeartbeat
from jobq_storage_sqlite.notifier import Notifier, SqliteSubscription
from jobq_storage_sqlite.transaction import Transaction
from jobq_storage_sqlite.writer import Reader, Writer

Synchronous = Literal["FULL", "EXTRA", "NORMAL"]

_SYNCHRONOUS: Final = ("FULL", "EXTRA", "NORMAL")


def _encoded(path: str | PurePath) -> bytes:
    """Return the bytes of a file's name; raises ConfigurationError where it has none."""
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        raise ConfigurationError("the name of a file cannot have a lone surrogate in it") from None


class _Parts:
    """What an open storage consists of."""

    def __init__(self, storage: SqliteQueueStorage) -> None:
        path, reading, patience = str(storage.path), partial(storage._connect, reads=True), storage.busy_timeout
        self.notes = Notes()
        # From where it is now: the working directory may become another.
        places = [
            FileIdentity(storage.path.absolute(), connect, self.notes)
            for connect in (storage._connect_writer, reading, reading)
        ]
        self.writer = Writer("writer", path, places[0], storage._moment, patience, ring=self._ring)
        self.reader = Reader("reader", path, places[1], storage._moment, patience)
        self.notifier = Notifier(self._rings, self._attend)
        self.watcher = ChangeWatcher(storage.path, places[2], self.notifier)

    def _ring(self, rings: dict[str, int]) -> None:
        self.notifier.ring_numbers(rings)

    async def _rings(self, topics: Iterable[str]) -> Mapping[str, int]:
        return await self.reader.call(partial(reading.rings, topics=list(topics)))

    def _attend(self, wanted: bool) -> None:
        self.watcher.attend(wanted)

    async def start(self) -> None:
        self.writer.start()
        self.reader.start()
        await self.writer.call(_touch)
        await self.reader.call(_touch)

    async def stop(self) -> None:
        self.notifier.close()
        await self.writer.stop()
        await self.reader.stop()
        await self.watcher.stop()


def _touch(transaction: Transaction) -> None:
    transaction.one("touch")


class SqliteQueueStorage(QueueStorage):
    """Jobs in a file of SQLite, for the processes of one machine.

    path: the file; it is made at `open()` where there is none, but not its folder.
    synchronous: 'FULL' (default) keeps what was acknowledged through a loss of power; 'NORMAL' is quicker and may then
        lose the last commits; 'EXTRA' is slower. A killed process loses nothing with any of them.
    busy_timeout: seconds to wait for another process's transaction (default 10); then StorageUnavailableError.
    migrate: whether `open()` makes the tables in a file that has none, and applies to an older schema what is safe
        while older code uses it (default: yes). If not, SchemaError names `jobq migrate`. A newer schema is refused
        once it had 'post' migrations that this code does not know.

    Raises ConfigurationError for a path or an option that cannot work.
    """

    schemes: ClassVar[tuple[str, ...]] = ("sqlite",)

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout: float = 10.0,
        migrate: bool = True,
    ) -> None:
        if not isinstance(path, (str, PurePath)):
            raise ConfigurationError(f"the path of a file must be text or a pathlib.Path, not {short_repr(path)}")
        if str(path) in ("", ".", ":memory:") or str(path).startswith("file:"):
            raise ConfigurationError(
                f"SQLite storage needs a file that several connections can open, not {short_repr(str(path))}; "
                "for jobs in memory use memory:// (MemoryQueueStorage)"
            )
        if synchronous not in _SYNCHRONOUS:
            raise ConfigurationError(
                f"synchronous must be one of {', '.join(_SYNCHRONOUS)}, not {short_repr(synchronous)}"
            )
        if "\0" in str(path):
            raise ConfigurationError("the name of a file cannot have a NUL character in it")
        _encoded(path)
        self.path = Path(path)
        self.synchronous = synchronous
        self.busy_timeout = check_positive_seconds(busy_timeout, "busy_timeout")
        self._migrate_at_open = check_bool(migrate, "migrate")
        self._clock, self._uptime = time.time, uptime
        self._opening = asyncio.Lock()
        self._parts: _Parts | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make a storage from `sqlite:///jobs.db` (relative) or `sqlite:////var/lib/jobs.db` (absolute)."""
        scheme, _, rest = url.partition("://")
        if scheme != "sqlite":
            raise ConfigurationError("this is no SQLite storage; write sqlite:///jobs.db")
        if rest in ("", "/", ":memory:", "/:memory:"):
            raise ConfigurationError(
                f"{url!r} names no file; write sqlite:///jobs.db, or memory:// for jobs in this process's memory"
            )
        if not rest.startswith("/"):
            # What looks like an address is not repeated: it may have a password in it.
            file = rest if is_unicode(rest) and not {"@", "?"} & set(rest) else "jobs.db"
            raise ConfigurationError(
                f"this URL names a host, and SQLite has none; write sqlite:///{file} with three slashes"
            )
        if "?" in rest or "#" in rest:
            raise ConfigurationError(
                "this URL has options, and a sqlite:// URL takes none; write a ? or # in a name as %3F or %23"
            )
        # By way of bytes: the name of a file may be no UTF-8.
        return cls(os.fsdecode(unquote_to_bytes(_encoded(rest[1:]))))

    @property
    def url(self) -> str:
        """Where it is."""
        return f"sqlite:///{quote(os.fsencode(self.path))}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `QueueStorage.warnings`: here, what became of the file while it is in use."""
        warning = None if self._parts is None else self._parts.notes.warning
        return () if warning is None else (warning,)

    def _moment(self) -> Moment:
        return Moment(int(self._clock() * SECOND), int(self._uptime() * SECOND))

    def _connect(self, *, create: bool = False, reads: bool = False, known: Look | None = None) -> sqlite3.Connection:
        return connect(self.path, self.synchronous, self.busy_timeout, create=create, reads=reads, known=known)

    def _connect_writer(self, *, known: Look | None = None) -> sqlite3.Connection:
        connection = self._connect(known=known)
        try:
            # It asks for the lock by itself, oftener than SQLite would, and gives up on each operation at its own time.
            connection.execute("PRAGMA busy_timeout = 0")
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self) -> _Parts:
        if self._parts is None:
            raise ClosedError(
                f"the SQLite storage {self.path} is not open: use it inside `async with`, or call open() first"
            )
        return self._parts

    # Life

    async def open(self) -> None:
        """Open the file and look at its schema; see `QueueStorage.open`."""
        async with self._opening:
            if self._parts is not None:
                return
            await asyncio.to_thread(self._prepare)
            parts = _Parts(self)
            try:
                await parts.start()
            except BaseException:
                await parts.stop()
                raise
            self._parts = parts

    def _prepare(self) -> None:
        try:
            with closing(self._connect(create=self._migrate_at_open)) as connection:
                if self._migrate_at_open and migrations.check(connection, str(self.path)):
                    migrations.apply(connection, str(self.path), "pre")
                migrations.require(connection, str(self.path))
        except sqlite3.Error as error:
            raise translate(error, str(self.path)) from error

    async def close(self) -> None:
        """Finish what is under way and close; see `QueueStorage.close`."""
        parts, self._parts = self._parts, None
        if parts is not None:
            await parts.stop()

    async def migrate(self, phase: Literal["pre", "post", "all"] = "all") -> list[str]:
        """Bring the schema up to date; see `QueueStorage.migrate`."""
        return await asyncio.to_thread(self._migrate, phase)

    def _migrate(self, phase: Literal["pre", "post", "all"]) -> list[str]:
        try:
            with closing(self._connect(create=True)) as connection:
                return migrations.apply(connection, str(self.path), phase)
        except sqlite3.Error as error:
            raise translate(error, str(self.path)) from error

    def migration_sql(self) -> str:
        """Return all migrations as one script; see `QueueStorage.migration_sql`."""
        return migrations.migration_sql()

    async def now(self) -> datetime:
        """Return this machine's clock, which all who can open the file share."""
        self._open()
        return to_datetime(self._moment().now)

    # Submitting, and the hot path

    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        """Store jobs; see `QueueStorage.add`. `connection` is an aiosqlite.Connection to the same file."""
        parts = self._open()
        if connection is not None:
            return await add_within(connection, self.path, self._moment, jobs)
        if not jobs:
            return []
        return await parts.writer.call(partial(adding.add, jobs=jobs))

    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        """Settle and claim; see `QueueStorage.settle_and_claim`."""
        return await self._open().writer.call(
            partial(settle_and_claim.settle_and_claim, worker=worker, settlements=settlements, claim=claim)
        )

    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        """See `QueueStorage.mark_started`."""
        parts = self._open()
        return (
            await parts.writer.call(partial(settle_and_claim.mark_started, worker=worker, leases=leases))
            if leases
            else []
        )

    async def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        """See `QueueStorage.check_leases`."""
        parts = self._open()
        return await parts.reader.call(partial(reading.check_leases, worker=worker, leases=leases)) if leases else []

    async def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        """See `QueueStorage.recover_claims`."""
        # Behind the writes of this process, so that an exchange whose caller gave up on it is seen.
        return await self._open().writer.call(partial(settle_and_claim.recover_claims, worker=worker, leases=leases))

    async def progress(self, worker: UUID, reports: Sequence[ProgressReport]) -> list[bool]:
        """See `QueueStorage.progress`."""
        parts = self._open()
        return await parts.writer.call(partial(workers.progress, reports=reports)) if reports else []

    # Control

    async def _change(self, ids: Sequence[UUID], act: control.Act) -> list[Change]:
        parts = self._open()
        return await parts.writer.call(partial(control.change, ids=ids, act=act)) if ids else []

    async def abort(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.abort`."""
        return await self._change(ids, control.abort)

    async def abort_run(self, run_id: str) -> list[Change]:
        """See `QueueStorage.abort_run`."""
        return await self._open().writer.call(partial(control.abort_run, run_id=run_id))

    async def retry(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.retry`."""
        return await self._change(ids, control.retry)

    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.disable`."""
        return await self._change(ids, control.disable)

    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.enable`."""
        return await self._change(ids, control.enable)

    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.delete`."""
        return await self._change(ids, control.delete)

    async def clear(self, queue: str) -> int:
        """See `QueueStorage.clear`."""
        return await self._open().writer.call(partial(control.clear, queue=queue))

    # Reading

    async def get(self, ids: Sequence[UUID]) -> list[JobRecord | None]:
        """See `QueueStorage.get`."""
        parts = self._open()
        return await parts.reader.call(partial(reading.get, ids=ids)) if ids else []

    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        """See `QueueStorage.find`."""
        return await self._open().reader.call(partial(reading.find, filter=filter, after=after, limit=limit))

    async def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        """See `QueueStorage.counts`."""
        return await self._open().reader.call(partial(reading.counts, queue=queue))

    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        """See `QueueStorage.get_status`."""
        parts = self._open()
        return await parts.reader.call(partial(reading.get_status, ids=ids)) if ids else []

    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        """See `QueueStorage.output_for`."""
        return await self._open().reader.call(
            partial(reading.output_for, queue=queue, kind=kind, fingerprint=fingerprint)
        )

    # Workers

    async def register(self, worker: WorkerInfo) -> None:
        """See `QueueStorage.register`."""
        await self._open().writer.call(partial(workers.register, worker=worker))

    def heartbeat(self, worker: WorkerInfo) -> SqliteHeartbeat:
        """See `QueueStorage.heartbeat`."""
        return SqliteHeartbeat(self._open().writer, worker, self.busy_timeout)

    async def deregister(self, worker: UUID) -> None:
        """See `QueueStorage.deregister`."""
        await self._open().writer.call(partial(workers.deregister, worker=worker))

    async def workers(self) -> list[WorkerRecord]:
        """See `QueueStorage.workers`."""
        return await self._open().reader.call(workers.workers)

    # Maintenance

    async def lead(self, worker: UUID, term: float) -> Leadership:
        """See `QueueStorage.lead`."""
        return await self._open().writer.call(partial(workers.lead, worker=worker, term=term))

    async def resign(self, worker: UUID) -> None:
        """See `QueueStorage.resign`."""
        await self._open().writer.call(partial(workers.resign, worker=worker))

    async def promote(self, limit: int = 1000) -> Promotion:
        """See `QueueStorage.promote`."""
        return await self._open().writer.call(partial(maintenance.promote, limit=limit))

    async def rescue(self) -> list[LostWorker]:
        """See `QueueStorage.rescue`."""
        return await self._open().writer.call(maintenance.rescue)

    async def set_retention(self, retention: Mapping[str, Retention]) -> None:
        """See `QueueStorage.set_retention`."""
        parts = self._open()
        if retention:
            await parts.writer.call(partial(maintenance.set_retention, retention=retention))

    async def prune(self, limit: int = 10_000) -> int:
        """See `QueueStorage.prune`."""
        return await self._open().writer.call(partial(maintenance.prune, limit=limit))

    # Notifier

    def subscribe(self, topics: Iterable[str]) -> SqliteSubscription:
        """See `QueueStorage.subscribe`."""
        return SqliteSubscription(self._open().notifier, topics)
