"""One connection of our own: opened with its settings, talked to without psycopg's cursors, given up when in doubt."""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Self, TypeAlias, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap, Loader, Transformer
from psycopg.pq import ConnStatus, Format
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import tuple_row

from jobq_storage_postgres.binary import pack_bool, texts, unpack_moment
from jobq_storage_postgres.protocol import READ, WRITE, Statement, Step, converse, hear

_log = logging.getLogger("jobq.postgres")

Row = TypeVar("Row")
Talk: TypeAlias = "Generator[int, int, Any]"
"""A conversation: yields what to wait for, is sent what came, and returns what was said."""

ADAPTERS: Final = AdaptersMap(psycopg.adapters)
"""As psycopg's, but JSON comes back as the bytes that were stored."""
_BYTES = ADAPTERS.get_loader(psycopg.adapters.types["bytea"].oid, Format.BINARY)
assert _BYTES is not None
ADAPTERS.register_loader("json", _BYTES)


class _Moment(Loader):
    """As psycopg's, but a moment that Python has no year for ('infinity', 20,000 B.C.) is the last or first it has."""

    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return unpack_moment(bytes(data))


ADAPTERS.register_loader("timestamptz", _Moment)

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


_SET: Final = Statement(
    "set",
    "SELECT set_config(s.name, s.value, $3::boolean) FROM unnest($1::text[], $2::text[]) AS s(name, value) "
    # What is acknowledged is kept, whatever the server's default. Nothing stricter than 'on' is weakened.
    "UNION ALL SELECT set_config('synchronous_commit', 'on', $3::boolean) "
    "WHERE $4::boolean AND current_setting('synchronous_commit') = 'off'",
)


_LIMIT: Final = Statement("limit", "SELECT set_config('statement_timeout', $1::text, true)")


def setting(time_limit: float, *, here: bool = False, durable: bool = True) -> Step:
    """Return what makes the settings of a session, or `here` those of a transaction.

    time_limit: the server stops a statement that we stopped waiting for. durable: whether a commit is flushed where the
    server's default is that it is not.
    """
    settings = {**_SETTINGS, "statement_timeout": str(max(1, round(time_limit * 1000)))}
    return _SET, (texts(list(settings)), texts(list(settings.values())), pack_bool(here), pack_bool(durable))


class TimeLimitError(psycopg.OperationalError):
    """The server did not answer within the time limit."""


class Link:
    """A connection in pipeline mode, used by one task at a time.

    Its socket is watched as long as it is open, and what comes in is taken in there and then: a round trip costs the
    event loop no registration and no timer of its own, and wakes its task once.

    `pooled` says that a pooler stands between us and the server: then nothing is kept in the session, neither settings
    nor prepared statements. It is told by the process id: a pooler makes up its own.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], time_limit: float) -> None:
        self._connection = connection
        self.pgconn: PGconn = connection.pgconn
        self.user = self.pgconn.user.decode(errors="replace")
        """The role that it was connected as."""
        self.time_limit = time_limit
        self.pooled = True
        self.prepared: set[bytes] | None = None
        self.used_at = 0.0
        self.given_up = False
        """Whether it was closed for our own reasons, which say nothing of the server."""
        self._loop = asyncio.get_running_loop()
        self._socket = self.pgconn.socket
        self._transformer = Transformer(connection)
        self._talk: Talk | None = None
        self._answer: asyncio.Future[list[PGresult]] | None = None
        self._behind = False
        self._when_free: Callable[[], None] | None = None
        self._until = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._writing = False
        self._stirred = False
        self._take_notification: Callable[[bytes], None] | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN | select.POLLERR | select.POLLHUP)
        self._loop.add_reader(self._socket, self._readable)

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
                # Who asks for it in jobq's own DSN has asked for it.
                durable = "synchronous_commit" not in str(conninfo.get("options", ""))
                await link.fetch([setting(time_limit, durable=durable)])
        except BaseException:
            link.close()
            raise
        return link

    @property
    def closed(self) -> bool:
        """Whether this connection is of no use any more."""
        return self.pgconn.status != ConnStatus.OK

    @property
    def engaged(self) -> bool:
        """Whether what was sent behind a transaction is not answered yet."""
        return self._behind or (self._talk is not None and self._answer is None)

    def is_fresh(self) -> bool:
        """Whether nothing came in while the connection lay idle. A server that went away has sent an end or an error,
        so this tells without a round trip, before anything is sent, that a connection is dead."""
        return not self._stirred and not self.closed and not self._poll.poll(0)

    def close(self) -> None:
        """Give the connection up; the server ends what was under way."""
        if not self._lost.done():
            self._lost.set_result(None)
            self._loop.remove_reader(self._socket)
            self._stop_writing()
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None
            self.pgconn.finish()
        self._talk = None
        self._behind = False
        self._free()

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

    async def run(self, steps: Sequence[Step], behind: Step | None = None) -> list[PGresult]:
        """Run statements as one transaction; raises psycopg.Error, TimeLimitError after the time limit.

        A connection whose state is in doubt (a cancelled caller, no answer in time) is closed: the server then undoes
        an open transaction.

        behind: a statement that is a transaction of its own, on its way to the server with the others and run when
        they are committed, or undone. It is prepared already, and not waited for: the connection is `engaged` until it
        is answered.
        """
        answer: asyncio.Future[list[PGresult]] = self._loop.create_future()
        self._answer = answer
        self._behind = behind is not None
        try:
            self._begin(converse(self.pgconn, steps, self.prepared, () if behind is None else (behind,)))
            return await answer
        except psycopg.Error as error:
            # What was prepared before an error stays prepared; rather than find out which statements were, start anew
            # then too, as when the conversation was broken off.
            answered = _is_answer(error)
            if not answered or (self.prepared is not None and any(s.key not in self.prepared for s, _ in steps)):
                self.given_up = answered
                self.close()
            raise
        except BaseException:
            self.given_up = True
            self.close()
            raise

    def when_free(self, call: Callable[[], None]) -> None:
        """Call back when the connection is engaged no more, or closed."""
        self._when_free = call

    def listen(self, take: Callable[[bytes], None]) -> None:
        """Hand over the payload of every notification from now on."""
        self._take_notification = take
        self._notify()

    async def wait_lost(self, seconds: float) -> None:
        """Wait so many seconds; raises psycopg.Error as soon as the connection is lost."""
        await asyncio.wait((self._lost,), timeout=seconds)
        if self._lost.done():
            raise psycopg.OperationalError("the connection was lost")

    # Talking

    def _begin(self, talk: Talk) -> None:
        self._talk = talk
        self._until = self._loop.time() + self.time_limit
        if self._alarm is None:
            # One alarm at a time, for whatever is under way when it goes off: most talks are over long before.
            self._alarm = self._loop.call_at(self._until, self._ring_alarm)
        self._go_on(None)

    def _go_on(self, event: int | None) -> None:
        talk = self._talk
        assert talk is not None
        try:
            want = next(talk) if event is None else talk.send(event)
        except StopIteration as end:
            self._end(end.value, None)
        except Exception as error:  # noqa: BLE001  (raised by `run`, or logged)
            self._end(None, error)
        else:
            if want & WRITE:
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(self._socket, self._go_on, WRITE)
            elif self._writing:
                self._stop_writing()

    def _end(self, value: Any, error: Exception | None) -> None:
        self._talk = None
        self._stop_writing()
        answer, self._answer = self._answer, None
        if answer is None:
            self._end_behind(value, error)
        elif not answer.done():
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)
        behind, self._behind = self._behind, False
        if behind and _is_answer(error):
            self._begin(hear(self.pgconn))  # the answer may have come with the one before it
        elif self._take_notification is not None:
            self._notify()

    def _end_behind(self, value: Any, error: Exception | None) -> None:
        if error is None:
            _, failed = value
            if failed is None:
                self._free()
                return
            self.given_up = True
            error = psycopg.errors.error_from_result(failed)
        _log.warning("what was sent to PostgreSQL behind a transaction may not have been done: %s", error)
        self.close()

    def _free(self) -> None:
        call, self._when_free = self._when_free, None
        if call is not None:
            call()

    def _ring_alarm(self) -> None:
        self._alarm = None
        if self._talk is None:
            return
        if self._loop.time() < self._until:
            self._alarm = self._loop.call_at(self._until, self._ring_alarm)
        else:
            self._end(None, TimeLimitError("the server did not answer within the time limit"))

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        if self._talk is not None:
            self._go_on(READ)
        elif self._take_notification is None:
            # An idle connection: this is its end, or a word on it. See `is_fresh`.
            self._stirred = True
            self._loop.remove_reader(self._socket)
        else:
            try:
                self.pgconn.consume_input()
            except psycopg.Error as error:
                _log.debug("a listening connection was lost: %s", error)
                self.close()
            else:
                self._notify()

    def _notify(self) -> None:
        while self._take_notification is not None and (notification := self.pgconn.notifies()) is not None:
            self._take_notification(notification.extra)


class _Context:
    """What psycopg takes its adapters from."""

    adapters = ADAPTERS
    connection = None


def _is_answer(error: Exception | None) -> bool:
    """Say whether the server answered to the end: only its own errors have a code."""
    return error is None or (isinstance(error, psycopg.Error) and error.sqlstate is not None)


class SyncLink:
    """The same for a thread: what a heartbeat beats over."""

    def __init__(self, conninfo: Mapping[str, Any], time_limit: float) -> None:
        self._time_limit = time_limit
        self._connection = psycopg.Connection.connect(**conninfo, autocommit=True)
        self._pgconn = self._connection.pgconn
        self.user = self._pgconn.user.decode(errors="replace")
        """The role that it was connected as."""
        self._pgconn.enter_pipeline_mode()

    @property
    def closed(self) -> bool:
        """Whether this connection is of no use any more."""
        return self._pgconn.status != ConnStatus.OK

    def is_fresh(self) -> bool:
        """Whether nothing came in while the connection lay idle; see `Link.is_fresh`."""
        if self.closed:
            return False
        poll = select.poll()
        poll.register(self._pgconn.socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Give the connection up."""
        self._pgconn.finish()

    def count(self, step: Step) -> int:
        """Run one statement and return how many rows it gave; raises psycopg.Error.

        The server is told of the time limit too: one that waits for a lock does not notice that nobody waits for it any
        more, and each try would leave another connection to it.
        """
        limit = str(max(1, round(self._time_limit * 1000))).encode()
        talk = converse(self._pgconn, [(_LIMIT, (limit,)), step], None)
        until = time.monotonic() + self._time_limit
        try:
            want = next(talk)
            while True:
                want = talk.send(self._ready(want, until))
        except StopIteration as end:
            return int(end.value[-1].ntuples)
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


__all__ = ["ADAPTERS", "Link", "SyncLink", "TimeLimitError", "setting"]
