"""One connection of our own: opened with its settings, talked to without psycopg's cursors, given up when in doubt."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg.adapt import AdaptersMap, Transformer
from psycopg.pq import ConnStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import tuple_row

from jobq_storage_postgres.wire import READ, WRITE, Statement, Step, converse, texts

Row = TypeVar("Row")

ADAPTERS: Final = AdaptersMap(psycopg.adapters)
"""As psycopg's, but JSON comes back as the bytes that were stored."""
_BYTES = ADAPTERS.get_loader(psycopg.adapters.types["bytea"].oid, Format.BINARY)
assert _BYTES is not None
ADAPTERS.register_loader("json", _BYTES)

_WHO = Statement("who", "SELECT pg_backend_pid(), current_setting('server_encoding')")

# Plans must not follow statistics: a queue's tables are empty one minute and bloated the next, and a plan made for the
# one is the death of the other. Every statement is written for index scans, so other plans are made unattractive.
_SETTINGS: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
    "search_path": "pg_catalog",
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",
}


def _set(local: bool) -> Statement:
    return Statement(
        "set_here" if local else "set",
        f"SELECT set_config(s.name, s.value, {str(local).lower()}) "
        "FROM unnest($1::text[], $2::text[]) AS s(name, value)",
    )


SET_HERE: Final = _set(local=True)
_SET: Final = _set(local=False)


def setting_params(time_limit: float) -> tuple[bytes, bytes]:
    """Return the parameters of SET_HERE; the server stops a statement that we stopped waiting for."""
    settings = {**_SETTINGS, "statement_timeout": str(max(1, round(time_limit * 1000)))}
    return texts(list(settings)), texts(list(settings.values()))


class TimeLimitError(psycopg.OperationalError):
    """The server did not answer within the time limit."""


class Link:
    """A connection in pipeline mode, used by one task at a time.

    `pooled` says that a pooler stands between us and the server: then nothing is kept in the session, neither settings
    nor prepared statements. It is told by the process id: a pooler makes up its own.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], time_limit: float) -> None:
        self._connection = connection
        self.pgconn: PGconn = connection.pgconn
        self.time_limit = time_limit
        self.pooled = True
        self.prepared: set[bytes] | None = None
        self.used_at = 0.0
        self.given_up = False
        """Whether it was closed for our own reasons, which say nothing of the server."""
        self._transformer = Transformer(connection)
        self._poll = select.poll()
        self._poll.register(self.pgconn.socket, select.POLLIN | select.POLLERR | select.POLLHUP)

    @classmethod
    async def connect(
        cls, conninfo: Mapping[str, Any], *, time_limit: float, prepared: bool | None, statements: bool = True
    ) -> Self:
        """Connect. prepared: whether a session can be relied on; None finds out. Raises psycopg.Error."""
        connection = await psycopg.AsyncConnection.connect(
            **conninfo, autocommit=True, context=_Context(), row_factory=tuple_row
        )
        link = cls(connection, time_limit)
        try:
            link.pgconn.enter_pipeline_mode()
            (found,) = await link.fetch([(_WHO, ())])
            link.pooled = found[0][0] != link.pgconn.backend_pid if prepared is None else not prepared
            if not link.pooled and statements:
                link.prepared = set()
                await link.fetch([(_SET, setting_params(time_limit))])
        except BaseException:
            link.close()
            raise
        return link

    @property
    def closed(self) -> bool:
        """Whether this connection is of no use any more."""
        return self.pgconn.status != ConnStatus.OK

    def is_fresh(self) -> bool:
        """Whether nothing came in while the connection lay idle. A server that went away has sent an end or an error,
        so this tells without a round trip, before anything is sent, that a connection is dead."""
        return not self.closed and not self._poll.poll(0)

    def close(self) -> None:
        """Give the connection up; the server ends what was under way."""
        self.pgconn.finish()

    async def fetch(self, steps: Sequence[Step]) -> list[list[Any]]:
        """Run statements as one transaction and return their rows as tuples."""
        return [self.load(result, tuple) for result in await self.run(steps)]

    def load(self, result: PGresult, make: Callable[[Sequence[Any]], Row]) -> list[Row]:
        """Return the rows of a result, each made by `make`."""
        count = result.ntuples
        if not count:
            return []
        transformer = self._transformer
        transformer.set_pgresult(result)
        return transformer.load_rows(0, count, make)

    async def run(self, steps: Sequence[Step]) -> list[PGresult]:
        """Run statements as one transaction; raises psycopg.Error, TimeLimitError after the time limit.

        A connection whose state is in doubt (a cancelled caller, no answer in time) is closed: the server then undoes
        an open transaction.
        """
        talk = converse(self.pgconn, steps, self.prepared)
        try:
            want = next(talk)
            loop = asyncio.get_running_loop()
            until = loop.time() + self.time_limit
            while True:
                want = talk.send(await self._ready(loop, want, until))
        except StopIteration as end:
            results: list[PGresult] = end.value
            return results
        except psycopg.Error as error:
            # Only an answer of the server has a code: without one the conversation was broken off somewhere. What was
            # prepared before an error stays prepared; rather than find out which statements were, start anew too.
            if error.sqlstate is None or (
                self.prepared is not None and any(s.key not in self.prepared for s, _ in steps)
            ):
                self.given_up = error.sqlstate is not None
                self.close()
            raise
        except BaseException:
            self.given_up = True
            self.close()
            raise

    async def wait_readable(self, seconds: float) -> bool:
        """Wait until something comes in; False after so many seconds."""
        loop = asyncio.get_running_loop()
        try:
            await self._ready(loop, READ, loop.time() + seconds)
        except TimeLimitError:
            return False
        return True

    async def _ready(self, loop: asyncio.AbstractEventLoop, want: int, until: float) -> int:
        socket = self.pgconn.socket
        future: asyncio.Future[int] = loop.create_future()
        timer = loop.call_at(until, _expire, future)
        loop.add_reader(socket, _resolve, future, READ)
        if want & WRITE:
            loop.add_writer(socket, _resolve, future, WRITE)
        try:
            return await future
        finally:
            timer.cancel()
            loop.remove_reader(socket)
            if want & WRITE:
                loop.remove_writer(socket)


class _Context:
    """What psycopg takes its adapters from."""

    adapters = ADAPTERS
    connection = None


def _resolve(future: asyncio.Future[int], what: int) -> None:
    if not future.done():
        future.set_result(what)


def _expire(future: asyncio.Future[int]) -> None:
    if not future.done():
        future.set_exception(TimeLimitError("the server did not answer within the time limit"))


class SyncLink:
    """The same for a thread: what a heart beats over."""

    def __init__(self, conninfo: Mapping[str, Any], time_limit: float) -> None:
        self._time_limit = time_limit
        self._connection = psycopg.Connection.connect(**conninfo, autocommit=True)
        self._pgconn = self._connection.pgconn
        self._pgconn.enter_pipeline_mode()

    @property
    def closed(self) -> bool:
        """Whether this connection is of no use any more."""
        return self._pgconn.status != ConnStatus.OK

    def close(self) -> None:
        """Give the connection up."""
        self._pgconn.finish()

    def count(self, step: Step) -> int:
        """Run one statement and return how many rows it gave; raises psycopg.Error."""
        talk = converse(self._pgconn, [step], None)
        until = time.monotonic() + self._time_limit
        try:
            want = next(talk)
            while True:
                want = talk.send(self._ready(want, until))
        except StopIteration as end:
            return int(end.value[0].ntuples)
        except BaseException:
            self.close()
            raise

    def _ready(self, want: int, until: float) -> int:
        left = max(0.0, until - time.monotonic())
        poll = select.poll()
        poll.register(self._pgconn.socket, select.POLLIN | (select.POLLOUT if want & WRITE else 0))
        events = poll.poll(left * 1000)
        if not events:
            raise TimeLimitError("the server did not answer within the time limit")
        event = events[0][1]
        return (READ if event & ~select.POLLOUT else 0) | (WRITE if event & select.POLLOUT else 0)


__all__ = ["ADAPTERS", "SET_HERE", "Link", "SyncLink", "TimeLimitError", "setting_params"]
