"""Adding jobs in a transaction that belongs to the caller: what may be passed as `connection`, and how it is used."""

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
from jobq_storage_postgres.adding import add_unique, answers, pack_jobs, topics_of
from jobq_storage_postgres.binary import Params
from jobq_storage_postgres.connection import ADAPTERS
from jobq_storage_postgres.errors import translate
from jobq_storage_postgres.notifier import Doorbell
from jobq_storage_postgres.protocol import Statement, Step
from jobq_storage_postgres.sql import Statements


class _Packed:
    """A parameter that is in binary already."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _PackedDumper(Dumper):
    """Passes it on; the statement's casts say what it is."""

    format = Format.BINARY
    oid = 0

    def dump(self, obj: _Packed) -> bytes:
        return obj.data


class Borrowed:
    """Somebody else's psycopg connection, whatever its row factory, mode or pipeline, as a session of ours."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def fetch(self, statement: Statement, params: Params = ()) -> list[Any]:
        """Run one statement and return its rows as tuples."""
        async with psycopg.AsyncRawCursor(self.connection, row_factory=tuple_row) as cursor:
            cursor.adapters.register_dumper(_Packed, _PackedDumper)
            cursor.adapters.register_loader("json", ADAPTERS.get_loader(114, Format.BINARY))  # type: ignore[arg-type]
            await cursor.execute(
                statement.sql, [None if param is None else _Packed(param) for param in params], binary=True
            )
            return await cursor.fetchall()

    async def fetch_last(self, steps: Sequence[Step]) -> list[list[Any]]:
        """Run statements; when to commit is the caller's to say."""
        return [await self.fetch(*step) for step in steps]

    def all_or_none(self) -> AbstractAsyncContextManager[Any]:
        """Return what keeps statements together: the caller's transaction, or in autocommit one for them alone."""
        idle = self.connection.info.transaction_status == TransactionStatus.IDLE
        return self.connection.transaction() if self.connection.autocommit and idle else nullcontext()


TAKEN: Final = "a psycopg.AsyncConnection (psycopg 3)"


class Lender:
    """Adds jobs over borrowed connections to the database of one storage."""

    def __init__(self, statements: Statements, doorbell: Doorbell, installation: UUID, url: str) -> None:
        self._statements = statements
        self._doorbell = doorbell
        self._installation = installation
        self._url = url
        self._known: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()

    async def add(self, connection: Any, jobs: Sequence[NewJob]) -> list[Added]:
        """Add jobs in the transaction of `connection`; raises ConfigurationError for one that cannot be used."""
        if not isinstance(connection, psycopg.AsyncConnection):
            raise ConfigurationError(
                f"connection= takes {TAKEN}, not {type(connection).__module__}.{type(connection).__qualname__}"
            )
        try:
            return await self._add(connection, jobs)
        except psycopg.Error as error:
            raise translate(error, connection.info.user, ["add"]) from error

    async def _add(self, connection: psycopg.AsyncConnection[Any], jobs: Sequence[NewJob]) -> list[Added]:
        session = Borrowed(connection)
        if connection not in self._known:
            await self._check(session)
            self._known.add(connection)
        if not jobs:
            return []
        async with session.all_or_none():
            if any(job.unique_key is not None for job in jobs):
                added = await add_unique(session, self._statements, jobs)
            else:
                (row,) = await session.fetch(self._statements["add"], pack_jobs(jobs))
                added = answers(jobs, row)
            made = [job for job, answer in zip(jobs, added, strict=True) if answer.created]
            if made:
                await session.fetch(*self._doorbell.step(topics_of(made)))
        return added

    async def _check(self, session: Borrowed) -> None:
        """Look, without an error that would break the caller's transaction, whether it is our database."""
        ((there,),) = await session.fetch(self._statements["is_there"])
        if there:
            ((installation,),) = await session.fetch(self._statements["installation"])
            if installation == self._installation:
                return
        raise ConfigurationError(
            f"connection= is to another database than the storage's ({self._url}): jobs added there would not be found"
        )
