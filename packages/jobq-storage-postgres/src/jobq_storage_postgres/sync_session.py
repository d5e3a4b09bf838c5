"""`SyncSession`: a connection for threads that keeps settings and prepared statements, as `Connection` does."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Generator, Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus
from psycopg.pq.abc import PGresult

from jobq_storage_postgres.adapters import AdapterContext
from jobq_storage_postgres.address import Address
from jobq_storage_postgres.connection import IDENTIFY
from jobq_storage_postgres.programs import Rows
from jobq_storage_postgres.protocol import READ, WRITE, Step, TimeLimitError, execute, receive
from jobq_storage_postgres.session_settings import session_settings

_log = logging.getLogger("jobq.postgres")

T = TypeVar("T")

FRESH_SECONDS: Final = 0.05
"""For how long after an answer an idle connection is taken for alive."""


class SyncSession:
    """A blocking connection in pipeline mode, used by one thread at a time. Raises psycopg.Error if it cannot connect.

    prepared: as `Connection.connect` takes it. pooled: whether a pooler stands between this process and the server.
    lost: whether the connection was lost, and not closed after an answer of the server's. used_at: when its last
    statements were answered, by time.monotonic().
    """

    def __init__(self, address: Address, time_limit: float, deadline: float, *, prepared: bool | None) -> None:
        conninfo = address.complete()
        limit = max(2, min(round(deadline - time.monotonic()), int(conninfo.get("connect_timeout") or time_limit)))
        options: dict[str, Any] = {**conninfo, "connect_timeout": limit}
        self._connection = psycopg.Connection.connect(**options, autocommit=True, context=AdapterContext())
        self._pgconn = self._connection.pgconn
        self._pgconn.enter_pipeline_mode()
        self._poll = select.poll()
        self._poll.register(self._pgconn.socket, select.POLLIN)
        self._transformer = Transformer(self._connection)
        self._prepared: set[bytes] | None = None
        self._rider: Generator[int, int, list[PGresult]] | None = None
        self.user = self._pgconn.user.decode(errors="replace")
        self.lost = False
        self.used_at = 0.0
        (((pid, _),),) = self.fetch_all([(IDENTIFY, ())], None, deadline)
        self.pooled = pid != self._pgconn.backend_pid if prepared is None else not prepared
        if not self.pooled:
            self._prepared = set()
            durable = "synchronous_commit" not in str(conninfo.get("options", ""))
            self.fetch_all([session_settings(time_limit, durable=durable)], None, deadline)

    @property
    def closed(self) -> bool:
        """Whether this connection can no longer be used."""
        return self._pgconn.status != ConnStatus.OK

    def is_fresh(self) -> bool:
        """Return whether an idle connection is alive, as far as can be said without a round trip.

        A poll is avoided where it says nothing new: after it, a thread waits for the interpreter's lock again.
        """
        if not self.closed and time.monotonic() > self.used_at + FRESH_SECONDS and self._poll.poll(0):
            self.lost = True
            self.close()
        return not self.closed

    def close(self) -> None:
        """Close the connection."""
        self._rider = None
        self._pgconn.finish()

    def fetch_all(self, steps: Sequence[Step], rider: Step | None, deadline: float) -> Rows:
        """Run statements as one transaction in one round trip, and return the rows of each. Closes after any error.

        rider: a statement that is sent along as a transaction of its own, and not waited for: see `finish_rider`.
        deadline: by time.monotonic(). Raises psycopg.Error, TimeLimitError.
        """
        if self.closed:
            raise psycopg.OperationalError("the connection was closed after an error")  # which said whether it was lost
        try:
            results = self._drive(execute(self._pgconn, steps, self._prepared, rider), deadline)
            if rider is not None:
                self._rider = receive(self._pgconn)
            self.used_at = time.monotonic()
            return [self._load(result) for result in results]
        except BaseException as error:
            self.lost = not isinstance(error, psycopg.Error) or error.sqlstate is None
            self.close()
            raise

    def finish_rider(self, deadline: float) -> bool:
        """Receive the answer to the last rider. Returns whether there is none left to wait for.

        deadline: by time.monotonic(); 0 does not wait.
        """
        rider = self._rider
        if rider is None:
            return not self.closed
        try:
            self._pgconn.consume_input()  # a poll would be slower, as in `is_fresh`
            if not deadline and self._pgconn.is_busy():
                return False
            self._drive(rider, deadline)
        except TimeLimitError:
            # A generator that raised is over; the answer is still to be received.
            self._rider = receive(self._pgconn)
            return False
        except psycopg.Error as error:
            # Not repeated: polling finds what it announced.
            _log.warning("could not notify other processes, which find new jobs by polling: %s", error)
            self.lost = error.sqlstate is None
            self.close()
            return False
        self._rider = None
        return True

    def _drive(self, exchange: Generator[int, int, T], deadline: float) -> T:
        try:
            want = next(exchange)
            while True:
                want = exchange.send(self._wait(want, deadline))
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _wait(self, want: int, deadline: float) -> int:
        left = max(0.0, deadline - time.monotonic())
        if want & WRITE:
            self._poll.modify(self._pgconn.socket, select.POLLIN | select.POLLOUT)
        events = self._poll.poll(left * 1000)
        if want & WRITE:
            self._poll.modify(self._pgconn.socket, select.POLLIN)
        if not events:
            raise TimeLimitError("the server did not answer within the time limit")
        event = events[0][1]
        return (READ if event & ~select.POLLOUT else 0) | (WRITE if event & select.POLLOUT else 0)

    def _load(self, result: PGresult) -> list[Any]:
        if not result.ntuples:
            return []
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)
