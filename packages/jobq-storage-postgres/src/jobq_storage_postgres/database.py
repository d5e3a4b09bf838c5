"""`Database`: runs statements on the connections of a pool, repeats what may be repeated, and translates errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
from psycopg.pq.abc import PGresult

from jobq_core.errors import JobQueueError, StorageError
from jobq_storage_postgres.binary import Params
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.errors import AGAIN, READ_ONLY, STALE, translate
from jobq_storage_postgres.pool import Pool
from jobq_storage_postgres.protocol import Statement, Step
from jobq_storage_postgres.session_settings import session_settings
from jobq_storage_postgres.transaction import BEGIN, COMMIT, StartOverError, Transaction

T = TypeVar("T")

Rider: TypeAlias = "Callable[[Connection], Step | None]"

_TRIES: Final = 10


class Database:
    """Runs statements; each call is one transaction. Raises StorageError and its subclasses, never the driver's errors.

    time_limit: seconds after which the server cancels a statement behind a pooler, where sessions have no settings.
    """

    def __init__(self, pool: Pool, time_limit: float) -> None:
        self.pool = pool
        self._prelude: Step = session_settings(time_limit, local=True)

    async def run(
        self, steps: Sequence[Step], load: Callable[[Connection, list[PGresult]], T], rider: Rider | None = None
    ) -> T:
        """Run statements as one transaction in one round trip, and return what `load` makes of their results.

        rider: asked at each try for a statement to send along; see `Connection.run`.
        """
        for tries in range(_TRIES):
            connection = await self.pool.acquire()
            try:
                if connection.pooled:
                    results = await self._run_pooled(connection, steps)
                else:
                    results = await connection.run(steps, None if rider is None else rider(connection))
                return load(connection, results)
            except (LookupError, TypeError, ValueError) as error:
                # Rows are missing or of another shape: the server is not PostgreSQL, or answers to another statement.
                connection.close()
                raise StorageError(f"PostgreSQL's answer does not match the statement: {error}") from error
            except psycopg.Error as error:
                if not _may_repeat(connection, error, tries):
                    raise translate(error, connection.user, [statement.name for statement, _ in steps]) from error
            finally:
                self.pool.release(connection)
        raise AssertionError("the last try returns or raises")

    async def _run_pooled(self, connection: Connection, steps: Sequence[Step]) -> list[PGresult]:
        """Run statements as one transaction with jobq's settings, which end with it."""
        if connection.isolation == "read committed":
            return (await connection.run([self._prelude, *steps]))[1:]
        # A transaction takes its isolation level where it begins, so this one has to be begun by name.
        try:
            return (await connection.run([(BEGIN, ()), self._prelude, *steps, (COMMIT, ())]))[2:-1]
        except psycopg.Error:
            connection.discard()  # its transaction is still open
            raise

    async def fetch_all(self, steps: Sequence[Step], rider: Rider | None = None) -> list[list[Any]]:
        """Run statements as one transaction in one round trip, and return the rows of each. rider: as `run` takes it.

        Drives programs whose round trips are transactions of their own.
        """
        return await self.run(steps, _load_all, rider)

    async def fetch(self, statement: Statement, params: Params = ()) -> list[Any]:
        """Run one statement and return its rows."""
        return (await self.run([(statement, params)], _load_all))[0]

    def post(self, connection: Connection, step: Step) -> asyncio.Future[list[PGresult]]:
        """Send a statement over a connection of the pool before this returns, and return a future of its answer."""
        return connection.post([self._prelude, step] if connection.pooled else [step])

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` within a transaction, commit when it returns, and return its value.

        `work` runs again after a deadlock, and each time that it raises StartOverError.
        """
        tries = restarts = 0
        while True:
            connection = await self.pool.acquire()
            transaction = Transaction(connection, [self._prelude] if connection.pooled else [], restarts)
            try:
                result = await work(transaction)
                await transaction.commit()
                return result
            except psycopg.Error as error:
                await transaction.rollback()
                if not _may_repeat(connection, error, tries):
                    raise translate(error, connection.user, transaction.last) from error
                tries += 1
            except StartOverError:
                await transaction.rollback()
                restarts += 1
            except JobQueueError:
                await transaction.rollback()
                raise
            except BaseException:
                # The caller was cancelled, or the work raised: the server rolls back when the connection closes.
                connection.discard()
                raise
            finally:
                self.pool.release(connection)


def _load_all(connection: Connection, results: list[PGresult]) -> list[list[Any]]:
    return [connection.load(result, tuple) for result in results]


def _may_repeat(connection: Connection, error: psycopg.Error, tries: int) -> bool:
    """Return whether nothing of the call took effect, and the same call may succeed now."""
    if error.sqlstate in AGAIN:
        return tries < _TRIES - 1
    if error.sqlstate in STALE:
        connection.close()
        return tries < 2
    if error.sqlstate == READ_ONLY:
        connection.close()  # this server became a standby; another connection may find the new primary
        return tries < 1
    return False
