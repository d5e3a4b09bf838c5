"""Adding jobs in a transaction of the caller: which `connection` is accepted, and how it is used."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final
from uuid import UUID
from weakref import WeakSet

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import tuple_row

from jobq_core.errors import ConfigurationError
from jobq_core.storage import Added, NewJob
from jobq_storage_postgres.adapters import ADAPTERS
from jobq_storage_postgres.adding_programs import add
from jobq_storage_postgres.binary import Params
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.errors import translate
from jobq_storage_postgres.lines import LineRegister
from jobq_storage_postgres.notifier import Notifier
from jobq_storage_postgres.programs import Rows, drive
from jobq_storage_postgres.protocol import Statement, Step
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.topics import topics_of

_ACCEPTED: Final = "a psycopg.AsyncConnection (psycopg 3)"


class CallerConnections:
    """Adds jobs over connections of callers to the database of one storage."""

    def __init__(
        self, database: Database, statements: Statements, lines: LineRegister, notifier: Notifier, url: str
    ) -> None:
        self._database = database
        self._statements = statements
        self._lines = lines
        self._notifier = notifier
        self._url = url
        self._installation: UUID | None = None
        self._checked: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()

    async def add(self, connection: Any, jobs: Sequence[NewJob]) -> list[Added]:
        """Add jobs in the transaction of `connection`. Raises ConfigurationError for one that cannot be used."""
        if not isinstance(connection, psycopg.AsyncConnection):
            given = type(connection)
            raise ConfigurationError(f"connection= takes {_ACCEPTED}, not {given.__module__}.{given.__qualname__}")
        _check_usable(connection)
        try:
            return await self._add(connection, jobs)
        except psycopg.Error as error:
            raise translate(error, connection.info.user, ["add"]) from error

    async def _add(self, connection: psycopg.AsyncConnection[Any], jobs: Sequence[NewJob]) -> list[Added]:
        session = CallerSession(connection)
        if connection not in self._checked:
            await self._check(session)
            self._checked.add(connection)
        if not jobs:
            return []
        await self._lines.ensure(jobs)
        async with session.atomic():
            added = await drive(add(self._statements, jobs), session.run)
            made = [job for job, answer in zip(jobs, added, strict=True) if answer.created]
            if made:
                await session.fetch(*self._notifier.step_within(topics_of(made)))
        return added

    async def _check(self, session: CallerSession) -> None:
        """Check that this is the storage's database, without an error that would break the caller's transaction."""
        if self._installation is None:
            ((self._installation,),) = await self._database.fetch(self._statements["installation"])
        ((exists,),) = await session.fetch(self._statements["is_there"])
        if exists:
            found: list[tuple[UUID]] = await session.fetch(self._statements["installation"])
            if found == [(self._installation,)]:
                return
        raise ConfigurationError(
            f"connection= leads to another database than the storage ({self._url}), which would not find the jobs"
        )


def _check_usable(connection: psycopg.AsyncConnection[Any]) -> None:
    """Check the properties of a connection that may change at any time. Raises ConfigurationError."""
    if connection.closed:
        raise ConfigurationError("connection= is closed: pass an open connection")
    encoding = connection.pgconn.parameter_status(b"client_encoding")
    if encoding not in (b"UTF8", None):
        raise ConfigurationError(
            f"connection= has the client_encoding {encoding.decode(errors='replace')}, which would change or refuse "
            "what jobs contain: connect with client_encoding='utf8'"
        )


class CallerSession:
    """A psycopg connection of the caller, with any row factory, in autocommit or in a pipeline."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def fetch(self, statement: Statement, params: Params = ()) -> list[Any]:
        """Run one statement and return its rows as tuples."""
        async with psycopg.AsyncRawCursor(self._connection, row_factory=tuple_row) as cursor:
            cursor.adapters.register_dumper(_Packed, _PackedDumper)
            cursor.adapters.register_loader("json", ADAPTERS.get_loader(114, Format.BINARY))  # type: ignore[arg-type]
            await cursor.execute(
                statement.sql, [None if param is None else _Packed(param) for param in params], binary=True
            )
            return await cursor.fetchall()

    async def run(self, steps: Sequence[Step]) -> Rows:
        """Drive programs; the caller commits."""
        return [await self.fetch(*step) for step in steps]

    def atomic(self) -> AbstractAsyncContextManager[Any]:
        """Return a context that keeps statements together: the caller's transaction, or in autocommit one of ours."""
        idle = self._connection.info.transaction_status == TransactionStatus.IDLE
        return self._connection.transaction() if self._connection.autocommit and idle else nullcontext()


class _Packed:
    """A parameter that is in binary format already."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _PackedDumper(Dumper):
    """Passes the data on; the statement's casts give its type."""

    format = Format.BINARY
    oid = 0

    def dump(self, obj: _Packed) -> bytes:
        return obj.data
