"""Operations in a transaction of the caller: which `connection` is accepted, and how it is used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID
from weakref import WeakSet

import psycopg

from jobq_core.caller_connections import Accepted, CallerConnection, is_a
from jobq_core.caller_thread import call_in_caller
from jobq_core.records import JobRecord
from jobq_core.storage import Added, Change, NewJob, Settlement
from jobq_storage_postgres import caller_programs as programs
from jobq_storage_postgres.asyncpg_session import AsyncpgSession
from jobq_storage_postgres.caller_sessions import AsyncCallerSession, CallerSession, SyncCallerSession
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.errors import AGAIN, translate
from jobq_storage_postgres.lines import LineRegister
from jobq_storage_postgres.notifier import Notifier
from jobq_storage_postgres.programs import Program, drive, drive_sync
from jobq_storage_postgres.psycopg2_session import Psycopg2Session
from jobq_storage_postgres.psycopg_sessions import AsyncPsycopgSession, PsycopgSession
from jobq_storage_postgres.records import get
from jobq_storage_postgres.sql import Statements

T = TypeVar("T")

_ACCEPTED: Final = Accepted(
    waits="a psycopg.AsyncConnection, an asyncpg connection", blocks="a psycopg.Connection, a psycopg2 connection"
)


class CallerConnections:
    """Runs operations over connections of callers to the database of one storage.

    Each raises ConfigurationError for a connection that cannot be used.
    """

    def __init__(
        self, database: Database, statements: Statements, lines: LineRegister, notifier: Notifier, url: str
    ) -> None:
        self._database = database
        self._statements = statements
        self._lines = lines
        self._notifier = notifier
        self._url = url
        self._installation: UUID | None = None
        self._checked: WeakSet[Any] = WeakSet()

    async def add(self, connection: Any, jobs: Sequence[NewJob]) -> list[Added]:
        """Add jobs in the transaction of `connection`."""
        return await self._run("add", connection, programs.add(self._statements, self._notifier, jobs), jobs)

    async def get(self, connection: Any, ids: Sequence[UUID]) -> list[JobRecord | None]:
        """Read jobs in the transaction of `connection`."""
        return await self._run("get", connection, get(self._statements, ids))

    async def abort(self, connection: Any, ids: Sequence[UUID]) -> list[Change]:
        """Abort jobs in the transaction of `connection`."""
        return await self._run("abort", connection, programs.abort(self._statements, self._notifier, ids))

    async def retry(self, connection: Any, ids: Sequence[UUID]) -> list[Change]:
        """Retry jobs in the transaction of `connection`."""
        return await self._run("retry", connection, programs.retry(self._statements, self._notifier, ids))

    async def complete(self, connection: Any, settlement: Settlement) -> None:
        """Complete a run in the transaction of `connection`. Raises LeaseLostError if its lease is over."""
        program = programs.complete(self._statements, self._notifier, settlement)
        await self._run("complete", connection, program, settlement.jobs)

    async def _run(self, name: str, given: Any, program: Program[T], jobs: Sequence[NewJob] = ()) -> T:
        caller = await _ACCEPTED.unwrap(given)
        session = _session_over(caller, given)
        session.check_usable()
        if self._installation is None:
            ((self._installation,),) = await self._database.fetch(self._statements["installation"])
        await self._lines.ensure(jobs)
        # A connection that a pool of asyncpg's lends out is another object each time.
        driver = getattr(session.driver, "_con", session.driver)
        checked = driver in self._checked
        if not checked:
            program = programs.checked(self._statements, self._installation, self._url, program)
        try:
            if isinstance(session, SyncCallerSession):
                answer = await call_in_caller(partial(_run_sync, program, caller, session))
            else:
                async with session.atomic():
                    answer = await drive(program, session.run)
        except psycopg.Error as error:
            raise _raised(error, caller, session, name) from _cause(error)
        if not checked:
            self._checked.add(driver)
        return answer


def _run_sync(program: Program[T], caller: CallerConnection, session: SyncCallerSession) -> T:
    with caller.scope(), session.atomic():
        return drive_sync(program, session.run)


def _session_over(caller: CallerConnection, given: Any) -> AsyncCallerSession | SyncCallerSession:
    driver = caller.driver
    if isinstance(driver, psycopg.AsyncConnection):
        _ACCEPTED.check_waits(given)
        return AsyncPsycopgSession(driver)
    if is_a(driver, "asyncpg", "Connection") or is_a(driver, "asyncpg.pool", "PoolConnectionProxy"):
        _ACCEPTED.check_waits(given)
        return AsyncpgSession(driver)
    if isinstance(driver, psycopg.Connection):
        _ACCEPTED.check_blocks(given)
        return PsycopgSession(driver)
    if is_a(driver, "psycopg2.extensions", "connection"):
        _ACCEPTED.check_blocks(given)
        return Psycopg2Session(driver)
    raise _ACCEPTED.refuse(given)


def _raised(error: psycopg.Error, caller: CallerConnection, session: CallerSession, name: str) -> Exception:
    """Return the error to raise: the caller's own, if the transaction is to be repeated."""
    if error.sqlstate in AGAIN:
        return caller.own_error(_cause(error))
    return translate(error, session.user, [name])


def _cause(error: psycopg.Error) -> Exception:
    """Return the driver's error."""
    return error.__cause__ if isinstance(error.__cause__, Exception) else error
