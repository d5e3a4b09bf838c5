"""A worker's heartbeat, from its own thread through the storage's one writer."""

from __future__ import annotations

from functools import partial

from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import Heartbeat
from jobq_storage_sqlite.workers import beat
from jobq_storage_sqlite.writer import Writer


class SqliteHeartbeat(Heartbeat):
    """Beats through the writer's thread, which no event loop can hold up.

    A connection of its own would only wait for the writer's lock: SQLite has one for the whole file.
    """

    def __init__(self, writer: Writer, worker: WorkerInfo, patience: float) -> None:
        self._writer = writer
        self._worker = worker
        # A beat that comes later than the worker's end is worth nothing; its thread can do better than wait for it.
        self._patience = min(patience, max(worker.lost_after / 3, 0.1))

    def beat(self, stats: WorkerStats) -> bool:
        """Renew the worker's row; see `Heartbeat.beat`."""
        return self._writer.call_blocking(partial(beat, worker=self._worker.id, stats=stats), self._patience)

    def close(self) -> None:
        """Nothing to give up: the connection is the storage's."""
