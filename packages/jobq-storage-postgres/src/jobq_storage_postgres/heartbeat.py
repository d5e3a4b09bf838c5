"""The heartbeat of a worker, from a thread, over a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from jobq_core.records import WorkerStats
from jobq_core.storage import Heartbeat
from jobq_storage_postgres.connection import SyncLink
from jobq_storage_postgres.errors import translate
from jobq_storage_postgres.sql import Statements


class PostgresHeartbeat(Heartbeat):
    """Beats over a connection made at the first beat, and again after it was lost."""

    def __init__(self, conninfo: Mapping[str, Any], statements: Statements, worker: UUID, time_limit: float) -> None:
        self._conninfo = conninfo
        self._beat = statements["beat"]
        self._worker = worker
        self._time_limit = time_limit
        self._link: SyncLink | None = None
        self._lock = threading.Lock()

    def beat(self, stats: WorkerStats) -> bool:
        """See `Heartbeat.beat`."""
        step = self._beat, (self._worker.bytes, msgspec.json.encode(stats))
        with self._lock:
            try:
                if self._link is None or not self._link.is_fresh():
                    self._drop()
                    self._link = SyncLink(self._conninfo, self._time_limit)
                return self._link.count(step) == 1
            except psycopg.Error as error:
                # A renewal can be repeated: the next beat does, over a new connection.
                user = "" if self._link is None else self._link.user
                self._drop()
                raise translate(error, user, [self._beat.name]) from error

    def close(self) -> None:
        """See `Heartbeat.close`."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
