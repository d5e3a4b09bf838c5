"""`PostgresQueueStorage`: the contract over PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import ClassVar, Final, Self

from jobq_core.errors import ConfigurationError
from jobq_core.storage import Phase, QueueStorage
from jobq_storage_postgres import grants as _grants
from jobq_storage_postgres import migrations as _migrations
from jobq_storage_postgres.adding import Adding
from jobq_storage_postgres.address import Password
from jobq_storage_postgres.control import Control
from jobq_storage_postgres.depths import Depths
from jobq_storage_postgres.diagnosis import Diagnosis
from jobq_storage_postgres.diagnosis_rules import LOSSY
from jobq_storage_postgres.engine import Engine
from jobq_storage_postgres.finding import Finding
from jobq_storage_postgres.grants import Part
from jobq_storage_postgres.leases import Leases
from jobq_storage_postgres.logs import Logs
from jobq_storage_postgres.maintenance import Maintenance
from jobq_storage_postgres.notifications import Notifications
from jobq_storage_postgres.operations import Operations
from jobq_storage_postgres.reading import Reading
from jobq_storage_postgres.requests import Requests
from jobq_storage_postgres.rescuing import Rescuing
from jobq_storage_postgres.schedules import DEFAULT_BYTES
from jobq_storage_postgres.settings import Settings
from jobq_storage_postgres.settle_and_claim import SettleAndClaim
from jobq_storage_postgres.statistics import Statistics
from jobq_storage_postgres.workers import Workers

_of_parents: Final[list[Engine]] = []
"""Engines that a forked child inherited and closed. Kept, since closing their connections would end the parent's."""


class PostgresQueueStorage(
    Adding,
    SettleAndClaim,
    Leases,
    Workers,
    Reading,
    Finding,
    Depths,
    Statistics,
    Control,
    Operations,
    Requests,
    Logs,
    Maintenance,
    Rescuing,
    Diagnosis,
    Notifications,
    QueueStorage,
):
    """Jobs in a PostgreSQL database, 15 or newer, in a schema of their own.

    dsn: 'postgresql://user@host/database', 'postgres://…', or key=value pairs as libpq takes them. A URL may carry the
        options below in its query: '?schema=…&pool_size=…&time_limit=…&prepared=…&listen_dsn=…'.
    schema: the schema of the tables (default 'jobq').
    listen_dsn: another address of the same database for LISTEN, around a pooler (default: the DSN).
    pool_size: maximum number of connections, beside one for listening and one per heartbeat (default 10). They are made
        when needed, and closed after a minute without use.
    time_limit: seconds that connecting, waiting for a free connection, and each round trip may take (default 30).
    password: a function that returns the password of each new connection, for passwords that expire, such as the tokens
        of a cloud's IAM; called in a thread (default: the DSN's password).
    prepared: whether each connection is a session of its own, in which statements can be prepared; False behind a
        pooler in transaction mode (default None: each connection finds out).

    Raises ConfigurationError for settings that cannot work.
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
        password: Password | None = None,
        prepared: bool | None = None,
    ) -> None:
        self._settings = Settings.read(
            dsn,
            schema=schema,
            listen_dsn=listen_dsn,
            pool_size=pool_size,
            time_limit=time_limit,
            password=password,
            prepared=prepared,
        )
        self._engine = Engine(self._settings)
        self._opened = False
        self._warnings: tuple[str, ...] = ()

    @classmethod
    def from_url(cls, url: str) -> Self:
        if not url.startswith(tuple(f"{scheme}://" for scheme in cls.schemes)):
            raise ConfigurationError("the URL of a PostgreSQL storage begins with postgresql:// or postgres://")
        return cls(url)

    @property
    def url(self) -> str:
        return self._settings.url

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._warnings + self._engine.partitions.warnings

    @property
    def connections(self) -> Mapping[str, int]:
        return self._engine.pool.connections

    @property
    def schema(self) -> str:
        """The name of the schema that holds the tables."""
        return self._settings.schema

    def __repr__(self) -> str:
        return f"<PostgresQueueStorage {self.url}>"

    async def open(self) -> None:
        if self._opened:
            return
        engine = self._engine
        engine.pool.start()
        try:
            ((exists,),) = await engine.fetch("has_migrations")
            applied = dict(await engine.fetch("applied")) if exists else None
            _migrations.known().require(applied, _migrations.where(self.schema))
            unsafe, ((default_size,),) = await engine.fetch_all(("unsafe_settings", ()), ("default_size", ()))
        except BaseException:
            await engine.pool.stop()
            raise
        self._warnings = tuple(LOSSY.format(name=name) for (name,) in unsafe)
        engine.partitions.too_large = default_size > DEFAULT_BYTES
        self._opened = True

    async def close(self) -> None:
        if not self._opened:
            return
        self._opened = False
        self._warnings = ()
        if self._engine.pool.is_inherited:
            _of_parents.append(self._engine)
        else:
            await self._engine.stop()
        self._engine = Engine(self._settings)

    async def migrate(self, phase: Phase = "all") -> list[str]:
        return await _migrations.migrate(self._settings.address, self.schema, phase)

    def migration_sql(self) -> str:
        return _migrations.as_sql(self.schema)

    async def grant(self, roles: Mapping[Part, Collection[str]]) -> None:
        """Grant roles the rights of their parts: {'producer': ['web'], 'worker': ['jobs']}.

        Works on a storage that is not open. Call it as the owner of the tables, after each `migrate`; a repeated call
        changes nothing. Raises ConfigurationError for an invalid role name, StorageError if a role does not exist or
        the caller does not own the tables.
        """
        await _migrations.execute(self._settings.address, self.schema, _grants.grants(self.schema, roles))

    def grant_sql(self, roles: Mapping[Part, Collection[str]]) -> str:
        """Return what `grant` does, as SQL that a database administrator can read and run."""
        return _grants.as_script(_grants.grants(self.schema, roles))

    async def now(self) -> datetime:
        ((now,),) = await self._engine.fetch("now")
        moment: datetime = now
        return moment
