"""`Transaction`: several statements, one after another, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import psycopg

from jobq_storage_postgres.binary import Params
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.protocol import Statement, Step

# READ COMMITTED, whatever the database's default: each statement must see what was committed before it began. The names
# are in capitals, so that they are different from those of all SQL files.
BEGIN: Final = Statement("BEGIN", "BEGIN ISOLATION LEVEL READ COMMITTED")
COMMIT: Final = Statement("COMMIT", "COMMIT")
_ROLLBACK: Final = Statement("ROLLBACK", "ROLLBACK")


class StartOverError(Exception):
    """Raised within a transaction that must be rolled back and run again from its beginning."""


class Session(Protocol):
    """Runs statements one after another in one transaction: our own, or the caller's."""

    async def fetch(self, statement: Statement, params: Params = ()) -> list[Any]:
        """Run one statement and return its rows as tuples."""
        ...

    async def fetch_last(self, steps: Sequence[Step]) -> list[list[Any]]:
        """Run the last statements, after which the transaction may be committed, and return the rows of each."""
        ...


class Transaction(Session):
    """A transaction of our own; each statement sees what was committed before it began.

    prelude: statements to run first. restarts: how often this work started over.
    """

    def __init__(self, connection: Connection, prelude: Sequence[Step], restarts: int) -> None:
        self.restarts = restarts
        self.last: list[str] = []
        """The names of the statements that were sent last."""
        self._connection = connection
        self._begin: Sequence[Step] = [(BEGIN, ()), *prelude]
        self._over = False

    async def fetch(self, statement: Statement, params: Params = ()) -> list[Any]:
        begin, self._begin = self._begin, ()
        self.last = [statement.name]
        return (await self._connection.fetch([*begin, (statement, params)]))[-1]

    async def fetch_last(self, steps: Sequence[Step]) -> list[list[Any]]:
        """Run statements and commit, in one round trip, and return the rows of each."""
        begin, self._begin = self._begin, ()
        self.last = [statement.name for statement, _ in steps]
        rows = await self._connection.fetch([*begin, *steps, (COMMIT, ())])
        self._over = True
        return rows[len(begin) : -1]

    async def commit(self) -> None:
        """Commit, unless nothing was begun or `fetch_last` committed."""
        if not self._over and not self._begin:
            await self._connection.run([(COMMIT, ())])

    async def rollback(self) -> None:
        """Roll back; a connection on which that fails is closed."""
        if self._connection.closed:
            return
        try:
            await self._connection.run([(_ROLLBACK, ())])
        except psycopg.Error:
            self._connection.close()
