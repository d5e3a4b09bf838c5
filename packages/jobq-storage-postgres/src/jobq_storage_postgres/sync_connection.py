"""`SyncConnection`: a connection for a thread, over which a heartbeat beats and programs run."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus
from psycopg.pq.abc import PGresult

from jobq_storage_postgres.adapters import AdapterContext
from jobq_storage_postgres.address import Address
from jobq_storage_postgres.programs import Rows
from jobq_storage_postgres.protocol import READ, WRITE, Step, TimeLimitError, execute
from jobq_storage_postgres.session_settings import session_settings
from jobq_storage_postgres.transaction import BEGIN, COMMIT, ROLLBACK


class SyncConnection:
    """A blocking connection in pipeline mode. Raises psycopg.Error if it cannot connect."""

    def __init__(self, address: Address, time_limit: float) -> None:
        self._time_limit = time_limit
        self._settings = session_settings(time_limit, local=True)
        self._connection = psycopg.Connection.connect(**address.complete(), autocommit=True, context=AdapterContext())
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
        """Run one statement and return how many rows it gave. Raises psycopg.Error, TimeLimitError, and then closes."""
        try:
            return int(self._run([step])[0].ntuples)
        except BaseException:
            self.close()
            raise

    def fetch_all(self, steps: Sequence[Step]) -> Rows:
        """Run statements as one transaction in one round trip, and return the rows of each. Drives programs.

        Raises psycopg.Error, TimeLimitError; closes unless it is an error of the server's.
        """
        try:
            return [self._load(result) for result in self._run(steps)]
        except psycopg.Error as error:
            if error.sqlstate is None:
                self.close()
            else:
                self._exchange([(ROLLBACK, ())])
            raise
        except BaseException:
            self.close()
            raise

    def _load(self, result: PGresult) -> list[Any]:
        if not result.ntuples:
            return []
        transformer = Transformer(self._connection)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)

    def _run(self, steps: Sequence[Step]) -> list[PGresult]:
        """Run statements as one transaction.

        The server gets the time limit too: it does not notice that a client which waits for a lock went away, and each
        heartbeat would leave another connection waiting there.
        """
        return self._exchange([(BEGIN, ()), self._settings, *steps, (COMMIT, ())])[2:-1]

    def _exchange(self, steps: Sequence[Step]) -> list[PGresult]:
        exchange = execute(self._pgconn, steps, None)
        deadline = time.monotonic() + self._time_limit
        try:
            want = next(exchange)
            while True:
                want = exchange.send(self._wait(want, deadline))
        except StopIteration as end:
            results: list[PGresult] = end.value
            return results

    def _wait(self, want: int, deadline: float) -> int:
        left = max(0.0, deadline - time.monotonic())
        poll = select.poll()
        poll.register(self._pgconn.socket, select.POLLIN | (select.POLLOUT if want & WRITE else 0))
        events = poll.poll(left * 1000)
        if not events:
            raise TimeLimitError("the server did not answer within the time limit")
        event = events[0][1]
        return (READ if event & ~select.POLLOUT else 0) | (WRITE if event & select.POLLOUT else 0)
