"""`SyncConnection`: a connection for a thread, over which a heartbeat beats."""

from __future__ import annotations

import select
import time

import psycopg
from psycopg.pq import ConnStatus

from jobq_storage_postgres.address import Address
from jobq_storage_postgres.protocol import READ, WRITE, Step, TimeLimitError, execute
from jobq_storage_postgres.session_settings import session_settings
from jobq_storage_postgres.transaction import BEGIN, COMMIT


class SyncConnection:
    """A blocking connection in pipeline mode. Raises psycopg.Error if it cannot connect."""

    def __init__(self, address: Address, time_limit: float) -> None:
        self._time_limit = time_limit
        self._settings = session_settings(time_limit, local=True)
        self._connection = psycopg.Connection.connect(**address.complete(), autocommit=True)
        self._pgconn = self._connection.pgconn
        self.user = self._pgconn.user.decode(errors="replace")
        """The role of this connection."""
        self._pgconn.enter_pipeline_mode()

    def is_fresh(self) -> bool:
        """Whether an idle connection is alive, as far as can be said without a round trip."""
        if self._pgconn.status != ConnStatus.OK:
            return False
        poll = select.poll()
        poll.register(self._pgconn.socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the connection."""
        self._pgconn.finish()

    def count(self, step: Step) -> int:
        """Run one statement and return how many rows it gave. Raises psycopg.Error, TimeLimitError.

        The server gets the time limit too: it does not notice that a client which waits for a lock went away, and each
        heartbeat would leave another connection waiting there.
        """
        exchange = execute(self._pgconn, [(BEGIN, ()), self._settings, step, (COMMIT, ())], None)
        deadline = time.monotonic() + self._time_limit
        try:
            want = next(exchange)
            while True:
                want = exchange.send(self._wait(want, deadline))
        except StopIteration as end:
            return int(end.value[2].ntuples)
        except BaseException:
            self.close()
            raise

    def _wait(self, want: int, deadline: float) -> int:
        left = max(0.0, deadline - time.monotonic())
        poll = select.poll()
        poll.register(self._pgconn.socket, select.POLLIN | (select.POLLOUT if want & WRITE else 0))
        events = poll.poll(left * 1000)
        if not events:
            raise TimeLimitError("the server did not answer within the time limit")
        event = events[0][1]
        return (READ if event & ~select.POLLOUT else 0) | (WRITE if event & select.POLLOUT else 0)
