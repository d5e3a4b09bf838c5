"""Group commit: the operations that queue up while one commits are committed together.

A durable commit costs the wait for the disk, whatever it holds. An operation is a plain function of a Transaction. An
operation that fails undoes its own changes only.
"""

from __future__ import annotations

import asyncio
import queue
import random
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from concurrent import futures
from typing import Any, Final, TypeVar

from jobq_storage_sqlite.boot_clock import Moment
from jobq_storage_sqlite.columns import to_text
from jobq_storage_sqlite.errors import as_raised, breaks_connection, code_of
from jobq_storage_sqlite.file_identity import FileIdentity
from jobq_storage_sqlite.file_warnings import LogGrowth
from jobq_storage_sqlite.forks import gate
from jobq_storage_sqlite.runs import RUNS_LIMIT, Run
from jobq_storage_sqlite.spans import StoredSpans
from jobq_storage_sqlite.transaction import Transaction

T = TypeVar("T")
Work = Callable[[Transaction], T]

GROUP: Final = 1000
"""The largest number of operations that are committed together."""

RETRY_SECONDS: Final = (0.0003, 0.005)
"""The first and the longest pause between two tries to take the write lock. SQLite itself pauses for up to 0.1 s, and
so gets next to nothing beside a process that writes all the time."""


class Call:
    """An operation, and the future of its caller: of the event loop, or of another thread."""

    __slots__ = ("future", "since", "work")

    def __init__(self, work: Work[Any], future: asyncio.Future[Any] | futures.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.since = time.monotonic()


Outcome = tuple[Call, Any, BaseException | None]
Answers = tuple[list[Outcome], dict[str, int]]
"""What to answer to some calls, and the topics to notify, with their counts of notifications."""


class GroupCommit:
    """The writer's connection, and what is done on it. Belongs to the writer's thread, but for `calls`, to which any
    thread adds; None ends the writer."""

    def __init__(
        self,
        path: str,
        identity: FileIdentity,
        growth: LogGrowth,
        clock: Callable[[], Moment],
        busy_timeout: float,
    ) -> None:
        self._path = path
        self.calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._identity = identity
        self._growth = growth
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._runs: dict[int, Run] = {}
        self._stored_spans = StoredSpans()
        self._connection: sqlite3.Connection | None = None

    def commit(self, group: list[Call]) -> Iterator[Answers]:
        """Carry out these calls, and those that queue up until they have the lock. The process does not fork then."""
        with gate.lock:
            yield from self._commit(group)

    def _commit(self, group: list[Call], *, alone: bool = False, guarded: bool = False) -> Iterator[Answers]:
        """Carry out these calls, and those that queue up until they have the lock, unless they are to be alone.

        guarded: whether each call has a savepoint, so that one that fails undoes its own changes only.
        """
        try:
            connection = yield from self._begin(group, alone)
            if connection is not None:
                yield self._carry_out(connection, group if alone else self._gather(group), guarded)
        except Exception as error:  # noqa: BLE001 -- the callers get it
            self._abandon(error)
            if self._connection is not None and _is_undecodable(error):
                self._connection.text_factory = to_text
                yield from self._commit(group, alone=alone, guarded=guarded)
                return
            if len(group) == 1:
                yield [(group[0], None, as_raised(error, self._path))], {}
                return
            if not guarded and self._connection is not None:
                # Savepoints for all would take more time than doing this group again.
                yield from self._commit(group, alone=True, guarded=True)
                return
            # One of them failed all; each is tried again by itself, so that its failure is its own.
            for call in group:
                yield from self._commit([call], alone=True)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        self._stored_spans.forget()  # the next connection may be to another file
        if connection is not None:
            connection.close()

    def _begin(self, group: list[Call], alone: bool) -> Generator[Answers, None, sqlite3.Connection | None]:
        """Take the write lock and return the connection; None if no call is left. Each waits for its busy_timeout."""
        pause, longest = RETRY_SECONDS
        while True:
            try:
                connection = self._connected()
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY:
                    raise
                if not alone:
                    self._gather(group)
                oldest = time.monotonic() - self._busy_timeout
                late = [call for call in group if call.since <= oldest]
                if late:
                    group[:] = [call for call in group if call.since > oldest]
                    yield [(call, None, as_raised(error, self._path)) for call in late], {}
                if not group:
                    return None
                gate.lock.release()
                time.sleep(pause * random.uniform(0.5, 1.5))
                gate.lock.acquire()
                pause = min(pause * 1.5, longest)
            else:
                return connection

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._identity.open()
        elif self._identity.is_suspect:
            self._identity.verify(self._connection)
        return self._connection

    def _gather(self, group: list[Call]) -> list[Call]:
        """Add what queued up meanwhile."""
        while len(group) < GROUP:
            try:
                call = self.calls.get_nowait()
            except queue.Empty:
                break
            if call is None:
                self.calls.put(None)
                break
            group.append(call)
        return group

    def _carry_out(self, connection: sqlite3.Connection, group: list[Call], guarded: bool) -> Answers:
        if len(self._runs) > RUNS_LIMIT:
            self._runs.clear()
        transaction = Transaction(connection, self._clock(), self._runs, self._stored_spans)
        outcomes: list[Outcome] = []
        for call in group:
            if not call.future.done():
                outcomes.append(self._try(transaction, call, guarded))
        counts = transaction.flush()
        try:
            connection.execute("COMMIT")
            self._identity.verify(connection)
        except Exception as error:
            if isinstance(error, sqlite3.Error) and not breaks_connection(error):
                raise  # the commit surely took no effect, and may be tried again
            # The commit may have taken effect, and a second try may be answered otherwise: the callers must know.
            self._abandon(error)
            raised = as_raised(error, self._path)
            return [(call, None, failed or raised) for call, _, failed in outcomes], {}
        self._stored_spans.add(transaction.spans)
        self._growth.check()
        return outcomes, counts

    def _try(self, transaction: Transaction, call: Call, guarded: bool) -> Outcome:
        if not guarded:
            return call, call.work(transaction), None
        connection, topics, noted = transaction.connection, set(transaction.topics), transaction.tally.mark()
        connection.execute("SAVEPOINT operation")
        try:
            value = call.work(transaction)
        except Exception as error:
            # Some errors (a full disk) end the whole transaction, and all its work is done again.
            if not connection.in_transaction or _is_undecodable(error):
                raise
            connection.execute("ROLLBACK TO operation")
            connection.execute("RELEASE operation")
            transaction.topics = topics
            transaction.tally.undo(noted)
            return call, None, as_raised(error, self._path)
        connection.execute("RELEASE operation")
        return call, value, None

    def _abandon(self, error: BaseException) -> None:
        """Roll back, and close the connection if the error says that it is broken."""
        connection = self._connection
        if connection is None:
            return
        broken = breaks_connection(error)
        if connection.in_transaction:
            # Before closing, too: while an error's traceback has a cursor of it, SQLite does not close the connection,
            # and the transaction would keep its locks. For the same reason a rollback that fails is tried once more.
            for _ in range(2):
                try:
                    connection.execute("ROLLBACK")
                    break
                except (sqlite3.Error, MemoryError):
                    broken = True  # the error to report is the first one
        if broken:
            self.close()


def _is_undecodable(error: Exception) -> bool:
    """Whether a row holds text that is not UTF-8, which `to_text` reads."""
    return isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error)
