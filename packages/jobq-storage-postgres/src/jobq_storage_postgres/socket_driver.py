"""`SocketDriver`: runs one exchange at a time over the socket of a connection."""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.pq.abc import PGconn

from jobq_storage_postgres.protocol import READ, WRITE, Exchange, TimeLimitError

_log = logging.getLogger("jobq.postgres")


def is_answer(error: BaseException | None) -> bool:
    """Return whether the server answered: only its own errors have a code."""
    return error is None or (isinstance(error, psycopg.Error) and error.sqlstate is not None)


class SocketDriver:
    """Watches a socket as long as its connection is open, and drives the present exchange.

    Input is consumed where the event loop reports it, so a round trip costs no registration and no timer of its own,
    and wakes its task once.

    It has 15 attributes, as the event loop's readers, writers and timers are handled here and nowhere else.
    """

    def __init__(self, pgconn: PGconn, time_limit: float) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is closed."""
        self._loop = asyncio.get_running_loop()
        self._pgconn = pgconn
        self._socket = pgconn.socket
        self._time_limit = time_limit
        self._exchange: Exchange | None = None
        self._answer: asyncio.Future[Any] | None = None
        self._follow_up: Exchange | None = None
        self._on_idle: list[Callable[[], None]] = []
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._writing = False
        self._unexpected_input = False
        self._deliver: Callable[[bytes], None] | None = None
        self._input: select.poll | None = None
        if hasattr(select, "poll"):  # not on Windows
            self._input = select.poll()
            self._input.register(self._socket, select.POLLIN | select.POLLERR | select.POLLHUP)
        self._loop.add_reader(self._socket, self._on_readable)

    @property
    def busy(self) -> bool:
        """Whether a follow-up is under way, whose answer no task awaits."""
        return self._exchange is not None and self._answer is None

    def start(self, exchange: Exchange, follow_up: Exchange | None = None) -> asyncio.Future[Any]:
        """Begin an exchange, and return a future of its answer; TimeLimitError after the time limit.

        follow_up: an exchange that begins when the server has answered; its errors are logged and close the connection.
        """
        answer = self._answer = self._loop.create_future()
        self._follow_up = follow_up
        self._begin(exchange)
        return answer

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call back when the follow-up has ended, or the connection is closed."""
        self._on_idle.append(call)

    def catch_up(self) -> None:
        """Handle input that came while the event loop was blocked."""
        while self._exchange is not None and self._has_input():
            self._on_readable()

    def _begin(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._deadline = self._loop.time() + self._time_limit
        if self._timer is None:
            # One timer at a time, for the exchange under way when it fires: most exchanges end long before.
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
        self._advance(None)

    def is_quiet(self) -> bool:
        """Whether nothing came in while the connection was idle.

        A server that goes away sends an end or an error, so this recognises a dead connection without a round trip.
        """
        return not self._unexpected_input and not self._has_input()

    def _has_input(self) -> bool:
        if self._input is None:
            return bool(select.select([self._socket], (), (), 0)[0])
        return bool(self._input.poll(0))

    def listen(self, deliver: Callable[[bytes], None]) -> None:
        """Call `deliver` with the payload of each notification from now on."""
        self._deliver = deliver
        self._deliver_notifications()

    def close(self) -> None:
        """Close the connection; the server ends what was under way."""
        if not self.lost.done():
            self.lost.set_result(None)
            self._loop.remove_reader(self._socket)
            self._stop_writing()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._pgconn.finish()
        self._exchange = self._follow_up = None
        self._idle()

    def _advance(self, event: int | None) -> None:
        exchange = self._exchange
        assert exchange is not None
        try:
            want = next(exchange) if event is None else exchange.send(event)
        except StopIteration as end:
            self._end(end.value, None)
        except Exception as error:  # noqa: BLE001  (the awaiting task raises it)
            self._end(None, error)
        else:
            if want & WRITE:
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(self._socket, self._advance, WRITE)
            elif self._writing:
                self._stop_writing()

    def _end(self, value: Any, error: Exception | None) -> None:
        self._exchange = None
        self._stop_writing()
        answer, self._answer = self._answer, None
        if answer is None:
            self._end_follow_up(error)
        elif not answer.done():
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)
        follow_up, self._follow_up = self._follow_up, None
        if follow_up is not None and is_answer(error):
            self._begin(follow_up)  # its answer may have come with the one before it
        elif self._deliver is not None:
            self._deliver_notifications()

    def _end_follow_up(self, error: Exception | None) -> None:
        if error is None:
            self._idle()
        else:
            _log.warning("a notification that was sent behind a transaction may be lost: %s", error)
            self.close()

    def _idle(self) -> None:
        calls, self._on_idle = self._on_idle, []
        for call in calls:
            call()

    def _on_timer(self) -> None:
        self._timer = None
        if self._exchange is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
        else:
            self._end(None, TimeLimitError("the server did not answer within the time limit"))

    def _on_readable(self) -> None:
        if self._exchange is not None:
            self._advance(READ)
        elif self._deliver is None:
            # The server ends an idle connection, or says something about it: see `is_quiet`. If there is no input,
            # `catch_up` took it after the event loop had seen it.
            if self._has_input():
                self._unexpected_input = True
                self._loop.remove_reader(self._socket)
        else:
            try:
                self._pgconn.consume_input()
            except psycopg.Error as error:
                _log.debug("lost the listening connection: %s", error)
                self.close()
            else:
                self._deliver_notifications()

    def _deliver_notifications(self) -> None:
        while self._deliver is not None and (notification := self._pgconn.notifies()) is not None:
            self._deliver(notification.extra)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket)
