"""Registering workers, and their heartbeats."""

from __future__ import annotations

from uuid import UUID

from jobq_core.memory.requests import open_requests, store_answer
from jobq_core.memory.rows import WorkerRow, copy_stats
from jobq_core.memory.store import Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import WAITING_TOPIC, Heartbeat, WorkerRequest, WorkerStorage


class Workers(MemoryTransactions, WorkerStorage):
    """The operations of the facet of workers on the worker itself."""

    async def register(self, worker: WorkerInfo) -> None:
        with self._transaction() as store:
            row = store.workers.get(worker.id)
            if row is None:
                row = store.workers[worker.id] = WorkerRow(worker, store.clock.now(), 0, 0, WorkerStats())
            row.info = worker
            _renew(store, row)
            store.topics.add(WAITING_TOPIC)

    def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
        with self._transaction() as store:
            return MemoryHeartbeat(store, worker.id)

    async def deregister(self, worker: UUID) -> None:
        with self._transaction() as store:
            store.workers.pop(worker, None)


class MemoryHeartbeat(Heartbeat):
    """A heartbeat that may beat from any thread, and has no connection."""

    def __init__(self, store: Store, worker: UUID) -> None:
        self._store = store
        self._worker = worker

    def beat(self, stats: WorkerStats) -> bool:
        with self._store.lock:
            row = self._store.workers.get(self._worker)
            if row is None:
                return False
            _renew(self._store, row)
            row.stats = copy_stats(stats)
            return True

    def requests(self) -> list[WorkerRequest]:
        with self._store.lock:
            return open_requests(self._store, self._worker)

    def answer(self, id: UUID, answer: str) -> bool:
        with self._store.lock:
            return store_answer(self._store, id, answer)

    def close(self) -> None:
        """Do nothing: there is no connection."""


def _renew(store: Store, row: WorkerRow) -> None:
    row.beat_at = store.clock.now()
    row.lost_at = store.clock.steady() + row.lost_after
