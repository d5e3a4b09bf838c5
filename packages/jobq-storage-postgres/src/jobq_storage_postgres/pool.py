"""`Pool`: the connections of a storage."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Final

import psycopg

from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_storage_postgres.address import Address
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.errors import translate

_IDLE_SECONDS: Final = 60.0
"""Seconds after which an idle connection is closed, unless it is the last one."""


class Pool:
    """A stack of idle connections, a queue of waiting tasks, and connecting on demand.

    The last used connection is the next one, so that few are needed. A connection is checked before it is used, without
    a round trip: see `Connection.is_fresh`. psycopg_pool was measured against it: a lone add takes ×1.2 of its time
    with psycopg_pool, and 20 concurrent adds ×1.6.

    address: where they lead. size: the maximum number of connections. time_limit: seconds for a round trip, and for
    getting a connection. prepared: as `Connection.connect` takes it.
    """

    def __init__(self, address: Address, *, size: int, time_limit: float, prepared: bool | None) -> None:
        self.lost = 0
        """How often a connection was lost: another server may answer from then on."""
        self._address = address
        self._size = size
        self._time_limit = time_limit
        self._prepared = prepared
        self._idle: list[tuple[Connection, float]] = []
        self._used = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._open = False
        self._pid = 0
        self._all_released = asyncio.Event()

    def start(self) -> None:
        """Allow calls."""
        self._open = True
        self._pid = os.getpid()

    async def stop(self) -> None:
        """Refuse new calls, wait for those under way, and close the connections."""
        self._open = False
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        while self._used:
            self._all_released.clear()
            await self._all_released.wait()
        while self._idle:
            self._idle.pop()[0].close()

    @property
    def is_inherited(self) -> bool:
        """Whether the parent process of a fork started it."""
        return self._open and os.getpid() != self._pid

    @property
    def connections(self) -> dict[str, int]:
        """The connections by state, with the calls that wait for one."""
        return {"busy": self._used, "idle": len(self._idle), "waiting": len(self._waiters)}

    @property
    def spare(self) -> int:
        """How many more connections may be in use at a time."""
        return self._size - self._used

    def take_idle(self) -> Connection | None:
        """Return an idle connection for the caller alone, to be returned by `release`; None if there is none."""
        if not self._open or self._used >= self._size:
            return None
        connection = self._pop_idle()
        self._used += connection is not None
        return connection

    async def acquire(self) -> Connection:
        """Return a connection for the caller alone, to be returned by `release`.

        Raises ClosedError, StorageUnavailableError after the time limit.
        """
        self.check_open()
        if self._used < self._size or self._idle:
            connection = self._pop_idle()
            if connection is not None:
                self._used += 1
                return connection
        deadline = asyncio.get_running_loop().time() + self._time_limit
        while self._used >= self._size:
            await self._wait_for_turn(deadline)
            self.check_open()
        self._used += 1
        try:
            connection = self._pop_idle()
            if connection is None:
                connection = await self._connect()
        except BaseException:
            self._leave()
            raise
        return connection

    def release(self, connection: Connection) -> None:
        """Return a connection to the pool, as soon as it is not busy."""
        if connection.busy:
            connection.when_idle(lambda: self.release(connection))
        elif connection.closed:
            self.lost += not connection.discarded
            self._leave()
        elif not self._open:
            connection.close()
            self._leave()
        else:
            now = asyncio.get_running_loop().time()
            self._idle.append((connection, now))
            while len(self._idle) > 1 and now - self._idle[0][1] > _IDLE_SECONDS:
                self._idle.pop(0)[0].close()
            self._leave()

    def _pop_idle(self) -> Connection | None:
        """Return an idle connection that is alive, if there is one."""
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.is_fresh():
                return connection
            connection.close()
            self.lost += 1
        return None

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._time_limit):
                return await Connection.connect(self._address, time_limit=self._time_limit, prepared=self._prepared)
        except TimeoutError as error:
            raise StorageUnavailableError(f"PostgreSQL did not answer within {self._time_limit:g} s") from error
        except psycopg.Error as error:
            raise translate(error) from error

    async def _wait_for_turn(self, deadline: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                await turn
        except TimeoutError:
            raise StorageUnavailableError(
                f"none of the {self._size} connections became free within {self._time_limit:g} s"
            ) from None
        finally:
            if turn in self._waiters:
                self._waiters.remove(turn)
            elif turn.done() and not turn.cancelled() and self._used < self._size:
                # Ours may have been the only turn given; if we do not take it, the next task may.
                self._give_turn()

    def _give_turn(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _leave(self) -> None:
        self._used -= 1
        if self._waiters:
            self._give_turn()
        if not self._used:
            self._all_released.set()

    def check_open(self) -> None:
        """Raise ClosedError if the pool is not open, StorageError after a fork."""
        if not self._open:
            raise ClosedError("the PostgreSQL storage is not open: use it inside `async with`, or call open() first")
        if self.is_inherited:
            raise StorageError("this storage was opened in another process: open a new one after a fork")
