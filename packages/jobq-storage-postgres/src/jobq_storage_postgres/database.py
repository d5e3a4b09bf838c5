"""The connections of a storage, and how its statements are run on them.

A pool of our own, since the hot path cannot afford more than this: a stack of idle connections (the last used is the
next, so that few are needed), a line of those who wait, and connecting on demand. A connection is looked at before it
is used, without a round trip; see `Link.is_fresh`.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
from psycopg.pq.abc import PGresult

from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_storage_postgres.binary import Params
from jobq_storage_postgres.connection import Link, setting
from jobq_storage_postgres.errors import AGAIN, READ_ONLY, STALE, translate
from jobq_storage_postgres.protocol import Statement, Step

T = TypeVar("T")

Behind: TypeAlias = "Callable[[Link], Step | None]"
"""What to send behind a transaction, over a link in whose session statements are prepared."""

_TRIES: Final = 10
# What is looked for again must be looked at anew, whatever isolation the database was told to use.
# Prepared by names that no file of statements has: the operation `mark_started` is another thing.
_BEGIN: Final = Statement("BEGIN", "BEGIN ISOLATION LEVEL READ COMMITTED")
_COMMIT: Final = Statement("COMMIT", "COMMIT")
_ROLLBACK: Final = Statement("ROLLBACK", "ROLLBACK")
_IDLE: Final = 60.0


class StartOverError(Exception):
    """Raised by the work of a transaction that is to be undone and done again from its beginning."""


class Database:
    """Runs statements, each call one transaction, and turns the driver's errors into ours.

    conninfo: as `dsn.parse` gives it. size: connections at most. time_limit: seconds for one round trip, and for
    connecting, waiting for a free connection included.
    """

    def __init__(self, conninfo: Mapping[str, Any], *, size: int, time_limit: float, prepared: bool | None) -> None:
        self._conninfo = conninfo
        self._size = size
        self._time_limit = time_limit
        self._wanted = prepared
        self._prelude: Step = setting(time_limit, here=True)
        self._idle: list[Link] = []
        self._used = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._open = False
        self._pid = 0
        self._empty = asyncio.Event()
        self.lost = 0
        """How often a connection was lost: what was known of the server may not hold for the next one."""

    @property
    def time_limit(self) -> float:
        """Seconds for one round trip."""
        return self._time_limit

    # Life

    def start(self) -> None:
        """Let calls in."""
        self._open = True
        self._pid = os.getpid()

    async def stop(self) -> None:
        """Refuse new calls, let those under way end, and close the connections."""
        self._open = False
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        while self._used:
            self._empty.clear()
            await self._empty.wait()
        while self._idle:
            self._idle.pop().close()

    # Connections

    def _take(self) -> Link | None:
        """Return an idle connection that is alive, if there is one."""
        while self._idle:
            link = self._idle.pop()
            if link.is_fresh():
                return link
            link.close()
            self.lost += 1
        return None

    async def _acquire(self) -> Link:
        """Return a connection for the caller alone; it is to be given back by `_release`."""
        self._check_open()
        if self._used < self._size or self._idle:
            link = self._take()
            if link is not None:
                self._used += 1
                return link
        until = asyncio.get_running_loop().time() + self._time_limit
        while self._used >= self._size:
            await self._wait_for_turn(until)
            self._check_open()
        self._used += 1
        try:
            link = self._take()
            if link is None:
                link = await self._connect()
        except BaseException:
            self._leave()
            raise
        return link

    async def _wait_for_turn(self, until: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            async with asyncio.timeout_at(until):
                await turn
        except TimeoutError:
            raise StorageUnavailableError(
                f"none of {self._size} connections became free within {self._time_limit:g} s"
            ) from None
        finally:
            if turn in self._waiters:
                self._waiters.remove(turn)
            elif turn.done() and not turn.cancelled() and self._used < self._size:
                # Ours may have been the only turn given: if we go without taking it, the next one may.
                self._give_turn()

    def _give_turn(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _connect(self) -> Link:
        try:
            async with asyncio.timeout(self._time_limit):
                return await Link.connect(self._conninfo, time_limit=self._time_limit, prepared=self._wanted)
        except TimeoutError as error:
            raise StorageUnavailableError(f"PostgreSQL did not answer within {self._time_limit:g} s") from error
        except psycopg.Error as error:
            raise translate(error) from error

    def _release(self, link: Link) -> None:
        if link.engaged:
            link.when_free(lambda: self._take_back(link))
        else:
            self._take_back(link)

    def _take_back(self, link: Link) -> None:
        if link.closed:
            self.lost += not link.given_up
        elif not self._open:
            link.close()
        else:
            now = link.used_at = asyncio.get_running_loop().time()
            self._idle.append(link)
            while len(self._idle) > 1 and now - self._idle[0].used_at > _IDLE:
                self._idle.pop(0).close()
        self._leave()

    def _leave(self) -> None:
        self._used -= 1
        if self._waiters:
            self._give_turn()
        if not self._used:
            self._empty.set()

    def _check_open(self) -> None:
        if not self._open:
            raise ClosedError("the PostgreSQL storage is not open: use it inside `async with`, or call open() first")
        if os.getpid() != self._pid:
            raise StorageError("this storage was opened in another process: open a new one after a fork")

    # Statements

    async def run(
        self, steps: Sequence[Step], load: Callable[[Link, list[PGresult]], T], behind: Behind | None = None
    ) -> T:
        """Run statements as one transaction in one round trip and return what `load` makes of their results.

        behind: asked at each try, for what to send behind the transaction without waiting for it.
        """
        for tries in range(_TRIES):
            link = await self._acquire()
            try:
                if link.pooled:
                    results = (await link.run([self._prelude, *steps]))[1:]
                else:
                    results = await link.run(steps, None if behind is None else behind(link))
                return load(link, results)
            except (LookupError, TypeError, ValueError) as error:
                # Rows that are missing, or not of the kind that was asked for: no server of ours, or not in step.
                link.close()
                raise StorageError(f"PostgreSQL's answer is none to what it was asked: {error}") from error
            except psycopg.Error as error:
                if not _worth_another_try(link, error, tries):
                    raise translate(error, link.user, [statement.name for statement, _ in steps]) from error
            finally:
                self._release(link)
        raise AssertionError("the last try returns or raises")

    async def fetch_all(self, steps: Sequence[Step]) -> list[list[Any]]:
        """Run statements as one transaction in one round trip and return the rows of each."""
        return await self.run(steps, _load_all)

    async def fetch(self, statement: Statement, params: Params = (), behind: Behind | None = None) -> list[Any]:
        """Run one statement and return its rows. behind: as `run` has it."""
        return (await self.run([(statement, params)], _load_all, behind))[0]

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` within a transaction, which commits when it returns; all of it again after a deadlock.

        Work that raises StartOverError is undone and done again too, as often as it likes: it is told how often it was.
        """
        tries = restarts = 0
        while True:
            link = await self._acquire()
            begin: list[Step] = [(_BEGIN, ())]
            transaction = Transaction(link, [*begin, self._prelude] if link.pooled else begin, restarts)
            try:
                result = await work(transaction)
                await transaction.commit()
                return result
            except psycopg.Error as error:
                await _undo(link)
                if not _worth_another_try(link, error, tries):
                    raise translate(error, link.user, transaction.last) from error
                tries += 1
            except StartOverError:
                await _undo(link)
                restarts += 1
            except BaseException:
                # Cancelled, or the work raised: the server undoes what a closed connection left open.
                link.given_up = True
                link.close()
                raise
            finally:
                self._release(link)


class Transaction:
    """Statements one after another in one transaction, each seeing what was committed before it began."""

    def __init__(self, link: Link, begin: Sequence[Step], restarts: int) -> None:
        self.restarts = restarts
        """How often this work started over."""
        self.last: list[str] = []
        """The names of the statements that were sent last."""
        self._link = link
        self._begin = begin
        self._over = False

    async def fetch(self, statement: Statement, params: Params = ()) -> list[Any]:
        """Run one statement and return its rows; the first one takes the beginning along."""
        begin, self._begin = self._begin, ()
        self.last = [statement.name]
        return (await self._link.fetch([*begin, (statement, params)]))[-1]

    async def fetch_last(self, steps: Sequence[Step]) -> list[list[Any]]:
        """Run statements and commit, in one round trip, and return the rows of each."""
        begin, self._begin = self._begin, ()
        self.last = [statement.name for statement, _ in steps]
        rows = await self._link.fetch([*begin, *steps, (_COMMIT, ())])
        self._over = True
        return rows[len(begin) : -1]

    async def commit(self) -> None:
        """Commit, unless nothing was begun or the last statements did."""
        if not self._over and not self._begin:
            await self._link.run([(_COMMIT, ())])


def _load_all(link: Link, results: list[PGresult]) -> list[list[Any]]:
    return [link.load(result, tuple) for result in results]


async def _undo(link: Link) -> None:
    if link.closed:
        return
    try:
        await link.run([(_ROLLBACK, ())])
    except psycopg.Error:
        link.close()


def _worth_another_try(link: Link, error: psycopg.Error, tries: int) -> bool:
    """Say whether nothing of the call took effect and it may go better now."""
    if error.sqlstate in AGAIN:
        return tries < _TRIES - 1
    if error.sqlstate in STALE:
        link.close()
        return tries < 2
    if error.sqlstate == READ_ONLY:
        link.close()  # this server is a standby by now; another connection may find the new primary
        return tries < 1
    return False
