"""`Transaction`: several statements, one after another, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import psycopg

from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.programs import Last, Rows
from jobq_storage_postgres.protocol import Statement, Step

# READ COMMITTED, whatever the database's default: each statement must see what was committed before it began. The names
# are in capitals, so that they are different from those of all SQL files.
BEGIN: Final = Statement("BEGIN", "BEGIN ISOLATION LEVEL READ COMMITTED")
COMMIT: Final = Statement("COMMIT", "COMMIT")
ROLLBACK: Final = Statement("ROLLBACK", "ROLLBACK")


class StartOverError(Exception):
    """Raised within a transaction that must be rolled back and run again from its beginning."""


class Transaction:
    """A transaction of our own; each statement sees what was committed before it began. Its `run` drives programs.

    prelude: statements to run first. restarts: how often this work started over.
    """

    def __init__(self, connection: Connection, prelude: Sequence[Step], restarts: int) -> None:
        self.restarts = restarts
        self.last: list[str] = []
        """The names of the statements that were sent last."""
        self._connection = connection
        self._begin: Sequence[Step] = [(BEGIN, ()), *prelude]
        self._over = False

    async def run(self, steps: Sequence[Step]) -> Rows:
        """Run statements in one round trip, and return the rows of each. The last ones are committed with it."""
        begin, self._begin = self._begin, ()
        self.last = [statement.name for statement, _ in steps]
        if not isinstance(steps, Last):
            return (await self._connection.fetch([*begin, *steps]))[len(begin) :]
        rows = await self._connection.fetch([*begin, *steps, (COMMIT, ())])
        self._over = True
        return rows[len(begin) : -1]

    async def commit(self) -> None:
        """Commit, unless nothing was begun or `run` committed."""
        if not self._over and not self._begin:
            await self._connection.run([(COMMIT, ())])

    async def rollback(self) -> None:
        """Roll back; a connection on which that fails is closed."""
        if self._connection.closed:
            return
        try:
            await self._connection.run([(ROLLBACK, ())])
        except psycopg.Error:
            self._connection.close()
