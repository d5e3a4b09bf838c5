"""The writer: one thread through which all writes of a storage pass.

An operation runs as a whole in the thread, so a cancelled caller leaves nothing half done.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent import futures
from contextlib import suppress
from typing import TypeVar

from jobq_core.errors import ClosedError, StorageUnavailableError
from jobq_storage_sqlite.group_commit import Answers, Call, GroupCommit, Outcome, Work
from jobq_storage_sqlite.notifier import SqliteNotifier

T = TypeVar("T")


class Writer:
    """Runs operations in its thread, for the event loop on which it was made and for other threads.

    limit: seconds after which a call is given up.
    """

    def __init__(
        self,
        path: str,
        commits: GroupCommit,
        limit: float,
        notifier: SqliteNotifier,
    ) -> None:
        self._path = path
        self._notifier = notifier
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._commits, self._calls = commits, commits.calls
        self._closed = False
        # In the order in which the calls were made, so that one timer serves them all.
        self._waiting: dict[Call, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        # A daemon, so that a storage that was never closed does not hang the interpreter's exit.
        self._thread = threading.Thread(target=self._main, name="jobq-sqlite-writer", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish the operations under way, close the connection and end the thread."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limit):
                await self._ended.wait()
        if self._timer is not None:
            self._timer.cancel()

    async def call(self, work: Work[T]) -> T:
        """Run an operation and return its result. Raises StorageUnavailableError at the time limit."""
        future: asyncio.Future[T] = self._loop.create_future()
        call = Call(work, future)
        self._put(call)
        self._waiting[call] = None
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit, self._expire)
        try:
            return await future
        finally:
            del self._waiting[call]

    def call_blocking(self, work: Work[T], timeout: float) -> T:
        """Run an operation for a thread that has no event loop; waits up to `timeout` seconds."""
        future: futures.Future[T] = futures.Future()
        self._put(Call(work, future))
        try:
            return future.result(timeout)
        except futures.TimeoutError:
            if not future.cancel():
                return future.result()  # the answer came at this moment
            raise self._too_late(timeout) from None

    def _put(self, call: Call) -> None:
        if self._closed:
            raise ClosedError(f"the SQLite storage {self._path} is closed")
        self._calls.put(call)

    def _expire(self) -> None:
        """Give up on the calls that reached the time limit, and set the timer for the next."""
        self._timer = None
        now = time.monotonic()
        for call in self._waiting:
            left = call.since + self._limit - now
            if left > 0:
                self._timer = self._loop.call_later(left, self._expire)
                break
            if not call.future.done():
                call.future.set_exception(self._too_late(self._limit))

    def _too_late(self, limit: float) -> StorageUnavailableError:
        return StorageUnavailableError(f"SQLite file {self._path}: no answer within {limit:g} seconds")

    def _main(self) -> None:
        self._work()
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._ended.set)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            for answers in self._commits.commit([call]):
                self._answer(answers)
        self._commits.close()
        # A heartbeat may have called while the storage was being closed.
        with suppress(queue.Empty):
            while (call := self._calls.get_nowait()) is not None:
                self._answer(([(call, None, ClosedError(f"the SQLite storage {self._path} is closed"))], {}))

    def _answer(self, answers: Answers) -> None:
        """Hand the answers over, in one step for all calls of the event loop."""
        outcomes, counts = answers
        for outcome in outcomes:
            if isinstance(outcome[0].future, futures.Future):
                _resolve(outcome)
        try:
            self._loop.call_soon_threadsafe(self._deliver, outcomes, counts)
        except RuntimeError:
            # The event loop ended without closing the storage: no caller is left.
            if not self._loop.is_closed():
                raise

    def _deliver(self, outcomes: list[Outcome], counts: dict[str, int]) -> None:
        for outcome in outcomes:
            if isinstance(outcome[0].future, asyncio.Future):
                _resolve(outcome)
        if counts:
            self._notifier.deliver_counts(counts)


def _resolve(outcome: Outcome) -> None:
    call, value, error = outcome
    try:
        if error is not None:
            call.future.set_exception(error)
        else:
            call.future.set_result(value)
    except (asyncio.InvalidStateError, futures.InvalidStateError):
        pass  # its caller was cancelled, or gave up at the time limit
