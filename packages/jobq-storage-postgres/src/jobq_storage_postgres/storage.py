"""`PostgresQueueStorage`: the contract over PostgreSQL."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal, Self
from uuid import UUID

from psycopg.errors import UniqueViolation

from jobq_core.checks import check_bool, is_number
from jobq_core.encoding import is_unicode
from jobq_core.errors import ClosedError, ConfigurationError, StorageError
from jobq_core.records import JobRecord, WorkerInfo, WorkerRecord
from jobq_core.reprs import short_repr
from jobq_core.states import JobState
from jobq_core.storage import (
    Added,
    Change,
    Claim,
    ClaimedJob,
    Heartbeat,
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
from jobq_storage_postgres import dsn as _dsn
from jobq_storage_postgres import grants as _grants
from jobq_storage_postgres import migrations as _migrations
from jobq_storage_postgres.adding import add_unique, answers, is_plain, pack_jobs, pack_one, topics_of
from jobq_storage_postgres.caller_connection import Lender
from jobq_storage_postgres.control import Control
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.grants import Part
from jobq_storage_postgres.heartbeat import PostgresHeartbeat
from jobq_storage_postgres.maintenance import Upkeep
from jobq_storage_postgres.notifier import Doorbell, Ear, Ride
from jobq_storage_postgres.reading import Reading
from jobq_storage_postgres.settle_and_claim import HotPath
from jobq_storage_postgres.sql import Statements, check_schema
from jobq_storage_postgres.watermarks import Marks
from jobq_storage_postgres.workers import Workers

_log = logging.getLogger("jobq.postgres")

BULK = 10_000
"""Jobs in one `add` after which the planner is told of them (ANALYZE)."""


class PostgresQueueStorage(QueueStorage):
    """Jobs in a PostgreSQL database, 15 or newer, in a schema of their own.

    dsn: 'postgresql://user@host/database', 'postgres://…', or key=value pairs as libpq takes them. A URL may carry the
        options below in its query: '?schema=…&pool_size=…&time_limit=…&prepared=…&listen_dsn=…'.
    schema: where the tables are (default 'jobq').
    listen_dsn: another way to the same database for LISTEN, around a pooler (default: the same as dsn).
    pool_size: connections at most, beside one for listening and one for each heartbeat (default 10). They are made when
        needed, and closed after a minute in which they were not.
    time_limit: seconds that connecting, waiting for a free connection, and each round trip may take (default 30).
    prepared: whether a connection is a session of its own, in which statements can be prepared; False behind a pooler
        in transaction mode (default None: found out at each connection).

    Raises ConfigurationError for what cannot work.
    """

    schemes: ClassVar[tuple[str, ...]] = ("postgresql", "postgres")

    def __init__(
        self,
        dsn: str,
        *,
        schema: str | None = None,
        listen_dsn: str | None = None,
        pool_size: int | None = None,
        time_limit: float | None = None,
        prepared: bool | None = None,
    ) -> None:
        for text in (dsn, *(() if listen_dsn is None else (listen_dsn,))):
            if not isinstance(text, str):
                # Not shown: there may be a password in it.
                raise ConfigurationError(f"a DSN must be text, such as postgresql://host/database, not {type(text)}")
            if not is_unicode(text):
                raise ConfigurationError("a DSN cannot have a lone surrogate in it, which is no text")
        bare, options = _dsn.split(dsn)
        self._schema = check_schema(options.get("schema", "jobq") if schema is None else schema)
        limit = _number("time_limit", time_limit, options, 30.0)
        size = _number("pool_size", pool_size, options, 10)
        if not is_number(limit) or not 0.1 <= limit <= 3600:
            raise ConfigurationError(f"time_limit must be from 0.1 to 3600 seconds, not {short_repr(limit)}")
        if not is_number(size) or not 1 <= size <= 10_000 or size != int(size):
            raise ConfigurationError(f"pool_size must be a whole number from 1 to 10000, not {short_repr(size)}")
        if prepared is None and "prepared" in options:
            prepared = _truth(options["prepared"])
        if prepared is not None:
            check_bool(prepared, "prepared")
        self._conninfo = _dsn.parse(bare, limit)
        listen = listen_dsn or options.get("listen_dsn")
        listen_conninfo = self._conninfo if listen is None else _dsn.parse(listen, limit)
        self._url = _dsn.show(bare, self._schema)
        self._time_limit = limit
        self._listen_conninfo = listen_conninfo
        self._statements = Statements(self._schema)
        self._database = Database(self._conninfo, size=int(size), time_limit=limit, prepared=prepared)
        self._opened = False
        self._assemble()

    def _assemble(self) -> None:
        database, statements = self._database, self._statements
        self._doorbell = Doorbell(database, statements, self._schema, self._listen_conninfo, self._time_limit)
        ring = self._doorbell.ring
        self._marks = Marks(database, statements)
        self._hot_path = HotPath(database, statements, self._marks, ring)
        self._control = Control(database, statements, ring)
        self._reading = Reading(database, statements)
        self._workers = Workers(database, statements, ring)
        self._upkeep = Upkeep(database, statements, ring)
        self._lender: Lender | None = None
        self._warnings: tuple[str, ...] = ()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """See `QueueStorage.from_url`."""
        if not url.startswith(tuple(f"{scheme}://" for scheme in cls.schemes)):
            raise ConfigurationError("a PostgreSQL storage's URL begins with postgresql:// or postgres://")
        return cls(url)

    @property
    def url(self) -> str:
        """See `QueueStorage.url`."""
        return self._url

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `QueueStorage.warnings`."""
        return self._warnings

    @property
    def schema(self) -> str:
        """The name of the schema that holds the tables."""
        return self._schema

    def __repr__(self) -> str:
        return f"<PostgresQueueStorage {self._url}>"

    # Life

    async def open(self) -> None:
        """See `QueueStorage.open`."""
        if self._opened:
            return
        self._database.start()
        try:
            ((there,),) = await self._database.fetch(self._statements["has_migrations"])
            applied = dict(await self._database.fetch(self._statements["applied"])) if there else None
            _migrations.check(self._schema, applied)
            ((installation,),), unsafe = await self._database.fetch_all(
                [(self._statements["installation"], ()), (self._statements["unsafe_settings"], ())]
            )
        except BaseException:
            await self._database.stop()
            raise
        self._lender = Lender(self._statements, self._doorbell, installation, self._url)
        self._warnings = tuple(
            f"the server runs with {name}=off: a crash of its machine can lose acknowledged jobs, or all it has"
            for (name,) in unsafe
        )
        self._opened = True

    async def close(self) -> None:
        """See `QueueStorage.close`."""
        if not self._opened:
            return
        self._opened = False
        await self._marks.close()
        await self._doorbell.close()
        await self._database.stop()
        # What is left of this life must not reach into the next one, should it be opened again.
        self._assemble()

    def _check_opened(self) -> Lender:
        if not self._opened or self._lender is None:
            raise ClosedError("the PostgreSQL storage is not open: use it inside `async with`, or call open() first")
        return self._lender

    async def migrate(self, phase: Literal["pre", "post", "all"] = "all") -> list[str]:
        """See `QueueStorage.migrate`."""
        return await _migrations.migrate(self._conninfo, self._schema, phase)

    def migration_sql(self) -> str:
        """See `QueueStorage.migration_sql`."""
        return _migrations.as_sql(self._schema)

    async def grant(self, roles: Mapping[Part, Collection[str]]) -> None:
        """Let roles do their parts: {'producer': ['web'], 'worker': ['jobs']}. Works on a storage that is not open.

        To be called as the owner of the tables, after each `migrate`; again, it changes nothing. Raises
        ConfigurationError for a name that is no role's, StorageError if there is no such role or the tables are not
        the caller's.
        """
        await _migrations.execute(self._conninfo, self._schema, _grants.grants(self._schema, roles))

    def grant_sql(self, roles: Mapping[Part, Collection[str]]) -> str:
        """Return what `grant` does as SQL that a database administrator can read and run."""
        return _grants.as_script(_grants.grants(self._schema, roles))

    async def now(self) -> datetime:
        """See `QueueStorage.now`."""
        ((now,),) = await self._database.fetch(self._statements["now"])
        moment: datetime = now
        return moment

    # Submitting

    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        """See `QueueStorage.add`. connection: a psycopg.AsyncConnection."""
        lender = self._check_opened()
        if connection is not None:
            return await lender.add(connection, jobs)
        if not jobs:
            return []
        ride: Ride | None = None
        if not is_plain(jobs) and any(job.unique_key is not None for job in jobs):
            added = await self._database.transact(lambda session: add_unique(session, self._statements, jobs))
        else:
            ride = self._doorbell.ride(topics_of(jobs))
            try:
                added = await (self._add_one(jobs[0], ride) if is_plain(jobs) else self._add_group(jobs, ride))
            except BaseException:
                ride.failed()
                raise
        made = [job for job, answer in zip(jobs, added, strict=True) if answer.created]
        if made:
            if ride is not None:
                ride.arrived()
            else:
                self._doorbell.ring(topics_of(made))
            if len(made) >= BULK:
                await self._analyze()
        return added

    async def _analyze(self) -> None:
        try:
            await self._database.fetch(self._statements["analyze"])
        except (StorageError, ClosedError) as error:
            # The jobs are there, and whoever added them is told so. The planner hears of them from autovacuum, later.
            _log.warning("the planner was not told of many new jobs: %s", error)

    async def _add_one(self, job: NewJob, ride: Ride) -> list[Added]:
        try:
            await self._database.fetch(self._statements["add_one"], pack_one(job), ride.behind)
        except StorageError as error:
            if not isinstance(error.__cause__, UniqueViolation):
                raise
            return await self._add_group([job], ride)
        return [Added(job.id, True)]

    async def _add_group(self, jobs: Sequence[NewJob], ride: Ride) -> list[Added]:
        (row,) = await self._database.fetch(self._statements["add"], pack_jobs(jobs), ride.behind)
        return answers(jobs, row)

    # The hot path

    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        """See `QueueStorage.settle_and_claim`."""
        return await self._hot_path.settle_and_claim(worker, settlements, claim)

    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        """See `QueueStorage.mark_started`."""
        return await self._hot_path.mark_started(worker, leases)

    async def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        """See `QueueStorage.check_leases`."""
        return await self._hot_path.check_leases(worker, leases)

    async def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        """See `QueueStorage.recover_claims`."""
        return await self._hot_path.recover_claims(worker, leases)

    async def progress(self, worker: UUID, reports: Sequence[ProgressReport]) -> list[bool]:
        """See `QueueStorage.progress`."""
        return await self._hot_path.progress(reports)

    # Control

    async def abort(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.abort`."""
        return await self._control.change("abort", ids)

    async def abort_run(self, run_id: str) -> list[Change]:
        """See `QueueStorage.abort_run`."""
        return await self._control.abort_run(run_id)

    async def retry(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.retry`."""
        return await self._control.change("retry", ids, ordered=True)

    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.disable`."""
        return await self._control.change("disable", ids)

    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.enable`."""
        return await self._control.change("enable", ids, ordered=True)

    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.delete`."""
        return await self._control.change("delete", ids)

    async def clear(self, queue: str) -> int:
        """See `QueueStorage.clear`."""
        return await self._control.clear(queue)

    # Reading

    async def get(self, ids: Sequence[UUID]) -> list[JobRecord | None]:
        """See `QueueStorage.get`."""
        return await self._reading.get(ids)

    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        """See `QueueStorage.find`."""
        return await self._reading.find(filter, after, limit)

    async def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        """See `QueueStorage.counts`."""
        return await self._reading.counts(queue)

    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        """See `QueueStorage.get_status`."""
        return await self._reading.get_status(ids)

    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        """See `QueueStorage.output_for`."""
        return await self._reading.output_for(queue, kind, fingerprint)

    # Workers

    async def register(self, worker: WorkerInfo) -> None:
        """See `QueueStorage.register`."""
        await self._workers.register(worker)

    def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
        """See `QueueStorage.heartbeat`."""
        self._check_opened()
        limit = min(self._time_limit, max(1.0, worker.lost_after / 3))
        # Two seconds are the least that libpq takes. A connection that hangs must leave time for another.
        connecting = min(int(self._conninfo["connect_timeout"]), max(2, round(limit)))
        conninfo = {**self._conninfo, "connect_timeout": connecting}
        return PostgresHeartbeat(conninfo, self._statements, worker.id, limit)

    async def deregister(self, worker: UUID) -> None:
        """See `QueueStorage.deregister`."""
        await self._workers.deregister(worker)

    async def workers(self) -> list[WorkerRecord]:
        """See `QueueStorage.workers`."""
        return await self._workers.all()

    # Maintenance

    async def lead(self, worker: UUID, term: float) -> Leadership:
        """See `QueueStorage.lead`."""
        return await self._workers.lead(worker, term)

    async def resign(self, worker: UUID) -> None:
        """See `QueueStorage.resign`."""
        await self._workers.resign(worker)

    async def promote(self, limit: int = 1000) -> Promotion:
        """See `QueueStorage.promote`."""
        return await self._upkeep.promote(limit)

    async def rescue(self) -> list[LostWorker]:
        """See `QueueStorage.rescue`."""
        return await self._upkeep.rescue()

    async def set_retention(self, retention: Mapping[str, Retention]) -> None:
        """See `QueueStorage.set_retention`."""
        await self._upkeep.set_retention(retention)

    async def prune(self, limit: int = 10_000) -> int:
        """See `QueueStorage.prune`."""
        return await self._upkeep.prune(limit)

    # Doorbell

    def subscribe(self, topics: Iterable[str]) -> Ear:
        """See `QueueStorage.subscribe`."""
        self._check_opened()
        return Ear(topics, self._doorbell)


def _number(name: str, given: float | None, options: Mapping[str, str], default: float) -> float:
    if given is not None:
        return given
    if name not in options:
        return default
    try:
        return float(options[name])
    except ValueError:
        # Not repeated: a URL that lacks a & has more in an option's value, a password too.
        raise ConfigurationError(f"{name} must be a number") from None


def _truth(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ConfigurationError("prepared must be true or false")
