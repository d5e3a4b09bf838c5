"""A worker's heartbeat, through the storage's writer."""

from __future__ import annotations

from functools import partial
from uuid import UUID

import msgspec

from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import Heartbeat, WorkerRequest
from jobq_storage_sqlite.transaction import Transaction
from jobq_storage_sqlite.worker_requests import answer_request, open_requests
from jobq_storage_sqlite.writer import Writer


class SqliteHeartbeat(Heartbeat):
    """Beats through the writer's thread, which a busy event loop does not hold up.

    A connection of its own would only wait for the writer's lock: SQLite has one for the whole file.
    """

    def __init__(self, writer: Writer, worker: WorkerInfo, busy_timeout: float) -> None:
        self._writer = writer
        self._worker = worker
        # Three beats have time before the worker counts as lost; a beat that comes later is worth nothing.
        self._timeout = min(busy_timeout, max(worker.lost_after / 3, 0.1))

    def beat(self, stats: WorkerStats) -> bool:
        return self._writer.call_blocking(partial(_beat, worker=self._worker, stats=stats), self._timeout)

    def requests(self) -> list[WorkerRequest]:
        return self._writer.call_blocking(partial(open_requests, worker=self._worker.id), self._timeout)

    def answer(self, id: UUID, answer: str) -> bool:
        return self._writer.call_blocking(partial(answer_request, id=id, answer=answer), self._timeout)

    def close(self) -> None:
        """Do nothing: the connection is the storage's."""


def _beat(transaction: Transaction, worker: WorkerInfo, stats: WorkerStats) -> bool:
    row = (msgspec.json.encode(stats).decode(), transaction.now, transaction.uptime, worker.id.bytes)
    return transaction.run("beat", *row).rowcount == 1
