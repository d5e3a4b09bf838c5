"""The two threads that talk to SQLite: one writes, one reads; each has one connection and nobody else touches it.

An operation is a plain function of a Transaction. It runs as a whole in the thread, so a cancelled caller leaves
nothing half done. Writes that queue up while one commits are committed together, since what a durable commit costs is
the wait for the disk.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, Final, TypeVar

from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_storage_sqlite.boot_clock import Moment
from jobq_storage_sqlite.errors import breaks_connection, code_of, translate
from jobq_storage_sqlite.file_identity import FileIdentity
from jobq_storage_sqlite.transaction import Transaction

T = TypeVar("T")
Work = Callable[[Transaction], T]

GROUP: Final = 1000
"""How many operations are committed together at most."""

GRACE: Final = 30.0
"""Seconds that a call may take beyond the wait for locks."""

PAUSES: Final = (0.0003, 0.005)
"""Seconds between two tries to get the write lock, at first and in the end. SQLite itself pauses for up to 0.1 s:
whoever waits so gets next to nothing beside a process that writes all the time."""


class Call:
    """An operation on its way, and who waits for its answer: a future of the event loop or of a thread."""

    __slots__ = ("future", "since", "work")

    def __init__(self, work: Work[Any], future: asyncio.Future[Any] | futures.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.since = time.monotonic()


Outcome = tuple[Call, Any, BaseException | None]


class DatabaseThread:
    """A thread with a connection, and the queue in front of it."""

    def __init__(
        self,
        name: str,
        path: str,
        place: FileIdentity,
        clock: Callable[[], Moment],
        busy_timeout: float,
    ) -> None:
        self.path = path
        self._place = place
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._limit = busy_timeout + GRACE
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._current: Call | None = None
        self._lock = threading.Lock()
        self._closed = False
        # In the order in which they were made; one timer serves them all.
        self._waiting: dict[Call, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        # A daemon, so that a storage that nobody closed does not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._main, name=f"jobq-sqlite-{name}", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    async def stop(self) -> None:
        """Finish what is under way, close the connection and end."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)
        if os.getpid() == self._pid:
            await self._loop.run_in_executor(None, self._thread.join, self._limit)
        if self._timer is not None:
            self._timer.cancel()

    async def call(self, work: Work[T]) -> T:
        """Run an operation and return what it returns; raises StorageUnavailableError at the time limit."""
        self._check()
        future: asyncio.Future[T] = self._loop.create_future()
        call = Call(work, future)
        self._calls.put(call)
        self._waiting[call] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit, self._expire)
        try:
            return await future
        finally:
            del self._waiting[call]

    def call_blocking(self, work: Work[T], timeout: float) -> T:
        """Run an operation for a thread that is not the event loop's."""
        self._check()
        future: futures.Future[T] = futures.Future()
        self._calls.put(Call(work, future))
        try:
            return future.result(timeout)
        except futures.TimeoutError:
            if not future.cancel():
                return future.result()  # the answer came at this very moment
            raise self._too_late(timeout) from None

    def _check(self) -> None:
        if self._closed:
            raise ClosedError(f"the SQLite storage {self.path} is closed")
        # Threads do not live on in a forked child; asking for the process's id would take far longer.
        if not self._thread.is_alive():
            raise StorageError(
                f"the SQLite storage {self.path} was opened before this process was forked; open one of its own here"
                if os.getpid() != self._pid
                else f"the thread of the SQLite storage {self.path} ended by an error"
            )

    def _expire(self) -> None:
        """Give up on the calls whose time is over, and come again for the next."""
        self._timer = None
        now = time.monotonic()
        for call in self._waiting:
            left = call.since + self._limit - now
            if left > 0:
                self._timer = self._loop.call_later(left, self._expire)
                break
            self._give_up(call)

    def _give_up(self, call: Call) -> None:
        if call.future.done():
            return
        call.future.set_exception(self._too_late(self._limit))
        with self._lock:
            if self._current is call and self._connection is not None:
                self._connection.interrupt()

    def _too_late(self, limit: float) -> StorageUnavailableError:
        return StorageUnavailableError(f"SQLite file {self.path}: no answer within {limit:g} seconds")

    def _main(self) -> None:
        while (call := self._calls.get()) is not None:
            self._serve(call)
        self._disconnect()
        self._refuse()

    def _refuse(self) -> None:
        """Answer a heartbeat that called while the storage was being closed."""
        error = ClosedError(f"the SQLite storage {self.path} is closed")
        while not self._calls.empty():
            if (call := self._calls.get()) is not None:
                self._answer([(call, None, error)])

    def _serve(self, call: Call) -> None:
        raise NotImplementedError

    def _connected(self) -> sqlite3.Connection:
        """Return the connection to begin a transaction on: another one if the file has become another."""
        if self._connection is not None and not self._place.same(self._connection):
            self._disconnect()
        if self._connection is None:
            self._connection = self._place.open()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _abandon(self, error: BaseException | None) -> None:
        """End the transaction without a trace, and the connection too if the error says that it is broken."""
        connection = self._connection
        if connection is None:
            return
        broken = error is not None and breaks_connection(error)
        if connection.in_transaction:
            # Before it is closed too: as long as anything (an error's traceback, say) has a cursor of it, SQLite puts
            # closing off, and the transaction with its locks would live on.
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                broken = True  # the error to report is the first one
        if broken:
            self._disconnect()

    def _failed(self, error: BaseException) -> BaseException:
        """Return what the caller gets to see of an error."""
        if isinstance(error, OverflowError):
            # The driver's word for a number that the database has no room for.
            refused = StorageError(f"SQLite file {self.path}: {error}")
            refused.__cause__ = error
            return refused
        if not isinstance(error, sqlite3.Error):
            return error
        translated = translate(error, self.path)
        translated.__cause__ = error
        return translated

    def _answer(self, outcomes: list[Outcome], rings: dict[str, int] | None = None) -> None:
        """Hand the answers over, in one go for all that wait on the event loop."""
        local: list[Outcome] = []
        for outcome in outcomes:
            if isinstance(outcome[0].future, asyncio.Future):
                local.append(outcome)
            else:
                _settle(outcome)
        try:
            self._loop.call_soon_threadsafe(self._deliver, local, rings)
        except RuntimeError:
            # The event loop ended without closing the storage: there is nobody left to tell.
            if not self._loop.is_closed():
                raise

    def _deliver(self, outcomes: list[Outcome], rings: dict[str, int] | None) -> None:
        for outcome in outcomes:
            _settle(outcome)


def _settle(outcome: Outcome) -> None:
    call, value, error = outcome
    if isinstance(call.future, futures.Future):
        if not call.future.set_running_or_notify_cancel():
            return  # its thread waits no more
    elif call.future.done():
        return  # cancelled, or given up at its time limit
    if error is not None:
        call.future.set_exception(error)
    else:
        call.future.set_result(value)


def _is_undone(error: Exception) -> bool:
    """Say whether a commit that ended by this error surely took no effect.

    Not where the connection broke: its changes may be in the log already, and count for whoever opens the file next.
    """
    return isinstance(error, sqlite3.Error) and not breaks_connection(error)


class Reader(DatabaseThread):
    """Runs each operation in a snapshot of its own, beside the writer."""

    def _serve(self, call: Call) -> None:
        if call.future.done():
            return
        with self._lock:
            self._current = call
        value: Any = None
        error: BaseException | None = None
        try:
            connection = self._connected()
            connection.execute("BEGIN")
            value = call.work(Transaction(connection, self._clock()))
        except Exception as caught:  # noqa: BLE001 -- it is the caller's to see
            error = caught
        finally:
            with self._lock:
                self._current = None
            self._abandon(error)
        self._answer([(call, value, None if error is None else self._failed(error))])


class Writer(DatabaseThread):
    """Runs the operations that queued up in one transaction; one that fails takes back its own changes only."""

    def __init__(self, *args: Any, ring: Callable[[dict[str, int]], None]) -> None:
        super().__init__(*args)
        self._ring = ring

    def _deliver(self, outcomes: list[Outcome], rings: dict[str, int] | None) -> None:
        super()._deliver(outcomes, rings)
        if rings:
            self._ring(rings)

    def _serve(self, call: Call) -> None:
        group = [call]
        try:
            if self._begin(group):
                self._commit(self._gather(group))
        except Exception as error:  # noqa: BLE001 -- it is the callers' to see
            self._recover(group, error)

    def _gather(self, group: list[Call]) -> list[Call]:
        """Take along what queued up while the lock was waited for."""
        while len(group) < GROUP:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                break
            if call is None:
                self._calls.put(None)
                break
            group.append(call)
        return group

    def _begin(self, group: list[Call], *, alone: bool = False) -> bool:
        """Take the write lock; False if nobody has the patience left. Each call has its own busy_timeout to wait."""
        pause = PAUSES[0]
        while True:
            try:
                self._connected().execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if code_of(error) != sqlite3.SQLITE_BUSY:
                    raise
                if not alone:
                    self._gather(group)
                now = time.monotonic()
                late = [call for call in group if now - call.since >= self._busy_timeout]
                group[:] = [call for call in group if now - call.since < self._busy_timeout]
                if late:
                    self._answer([(call, None, self._failed(error)) for call in late])
                if not group:
                    return False
                time.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 1.5, PAUSES[1])
            else:
                return True

    @property
    def _begun(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def _commit(self, group: list[Call]) -> None:
        connection = self._begun
        transaction = Transaction(connection, self._clock())
        outcomes: list[Outcome] = []
        for call in group:
            if not call.future.done():
                outcomes.append(self._attempt(transaction, call, alone=len(group) == 1))
        rings = transaction.flush()
        try:
            connection.execute("COMMIT")
            self._place.confirm()
        except Exception as error:
            if _is_undone(error):
                raise
            # It may have taken effect, and doing it again may be answered otherwise: of that, whoever asked must know.
            self._abandon(error)
            outcomes = [(call, None, failed or self._failed(error)) for call, _, failed in outcomes]
            rings = {}
        self._answer(outcomes, rings)

    def _attempt(self, transaction: Transaction, call: Call, *, alone: bool) -> Outcome:
        if alone:
            return call, call.work(transaction), None
        connection = self._begun
        topics = transaction.topics
        transaction.topics = set()
        connection.execute("SAVEPOINT operation")
        try:
            value = call.work(transaction)
        except Exception as error:
            # Some errors (a full disk) end the whole transaction; then everybody's work is gone and is done again.
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO operation")
            connection.execute("RELEASE operation")
            transaction.topics = topics
            return call, None, self._failed(error)
        connection.execute("RELEASE operation")
        transaction.topics |= topics
        return call, value, None

    def _recover(self, group: list[Call], error: Exception) -> None:
        """End the transaction; what was in it with others is tried again alone, so that one's failure is its own."""
        self._abandon(error)
        if len(group) == 1:
            self._answer([(group[0], None, self._failed(error))])
            return
        for call in group:
            self._alone(call)

    def _alone(self, call: Call) -> None:
        try:
            if self._begin([call], alone=True):
                self._commit([call])
        except Exception as error:  # noqa: BLE001 -- it is the caller's to see
            self._recover([call], error)
