"""`PostgresHeartbeat`: the heartbeat of a worker, from a thread, over a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import msgspec
import psycopg

from jobq_core.records import WorkerStats
from jobq_core.storage import Heartbeat, WorkerRequest
from jobq_storage_postgres.address import Address
from jobq_storage_postgres.binary import Params, pack_text
from jobq_storage_postgres.errors import translate
from jobq_storage_postgres.protocol import Statement
from jobq_storage_postgres.requests import to_request
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.sync_connection import SyncConnection

T = TypeVar("T")


class PostgresHeartbeat(Heartbeat):
    """Beats over a connection that is made at the first beat, and again after it was lost."""

    def __init__(self, address: Address, statements: Statements, worker: UUID, time_limit: float) -> None:
        self._address = address
        self._statements = statements
        self._worker = worker
        self._time_limit = time_limit
        self._connection: SyncConnection | None = None
        self._lock = threading.Lock()

    def beat(self, stats: WorkerStats) -> bool:
        step = self._statements["beat"], (self._worker.bytes, msgspec.json.encode(stats))
        return self._call(step, lambda connection: connection.count(step)) == 1

    def requests(self) -> list[WorkerRequest]:
        step = self._statements["worker_requests"], (self._worker.bytes,)
        [rows] = self._call(step, lambda connection: connection.fetch_all([step]))
        return [to_request(row) for row in rows]

    def answer(self, id: UUID, answer: str) -> bool:
        step = self._statements["answer_request"], (id.bytes, pack_text(answer))
        return self._call(step, lambda connection: connection.count(step)) == 1

    def _call(self, step: tuple[Statement, Params], call: Callable[[SyncConnection], T]) -> T:
        """Make a call over the connection. After an error it can be repeated, over a new connection."""
        with self._lock:
            try:
                if self._connection is None or not self._connection.is_fresh():
                    self._drop()
                    self._connection = SyncConnection(self._address, self._time_limit)
                return call(self._connection)
            except psycopg.Error as error:
                user = "" if self._connection is None else self._connection.user
                self._drop()
                raise translate(error, user, [step[0].name]) from error

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
