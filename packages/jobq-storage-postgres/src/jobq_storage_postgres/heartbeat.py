"""`PostgresHeartbeat`: the heartbeat of a worker, from a thread, over a connection of its own."""

from __future__ import annotations

import threading
from uuid import UUID

import msgspec
import psycopg

from jobq_core.records import WorkerStats
from jobq_core.storage import Heartbeat
from jobq_storage_postgres.address import Address
from jobq_storage_postgres.errors import translate
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.sync_connection import SyncConnection


class PostgresHeartbeat(Heartbeat):
    """Beats over a connection that is made at the first beat, and again after it was lost."""

    def __init__(self, address: Address, statements: Statements, worker: UUID, time_limit: float) -> None:
        self._address = address
        self._beat = statements["beat"]
        self._worker = worker
        self._time_limit = time_limit
        self._connection: SyncConnection | None = None
        self._lock = threading.Lock()

    def beat(self, stats: WorkerStats) -> bool:
        step = self._beat, (self._worker.bytes, msgspec.json.encode(stats))
        with self._lock:
            try:
                if self._connection is None or not self._connection.is_fresh():
                    self._drop()
                    self._connection = SyncConnection(self._address, self._time_limit)
                return self._connection.count(step) == 1
            except psycopg.Error as error:
                # A renewal can be repeated: the next beat repeats it, over a new connection.
                user = "" if self._connection is None else self._connection.user
                self._drop()
                raise translate(error, user, [self._beat.name]) from error

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
