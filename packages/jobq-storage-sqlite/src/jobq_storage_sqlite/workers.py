"""Workers: registration, heartbeats and progress."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

import msgspec

from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import PROGRESS_TOPIC, UNKNOWN_KIND, ProgressReport, WorkerStorage, queue_topic
from jobq_core.timestamps import SECOND
from jobq_storage_sqlite.columns import text, to_array
from jobq_storage_sqlite.heartbeat import SqliteHeartbeat
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.transaction import Transaction


class Workers(StorageOnFile, WorkerStorage):
    """Writes through the writer, heartbeats too."""

    busy_timeout: float

    async def register(self, worker: WorkerInfo) -> None:
        await self._write(partial(register, worker=worker))

    def heartbeat(self, worker: WorkerInfo) -> SqliteHeartbeat:
        return SqliteHeartbeat(self._file().writer, worker, self.busy_timeout)

    async def deregister(self, worker: UUID) -> None:
        await self._write(partial(deregister, worker=worker))

    async def progress(self, worker: UUID, reports: Sequence[ProgressReport]) -> list[bool]:
        return await self._write(partial(progress, reports=reports)) if reports else []


def register(transaction: Transaction, worker: WorkerInfo) -> None:
    """Add a worker, and free the jobs that were blocked because their kind was unknown."""
    transaction.run(
        "register",
        worker.id.bytes,
        transaction.numbers(1),
        text(worker.name),
        text(worker.host),
        worker.pid,
        to_array(worker.queues),
        to_array(worker.kinds),
        worker.concurrency,
        round(worker.lost_after * SECOND),
        msgspec.json.encode(WorkerStats()).decode(),
        transaction.now,
        transaction.now,
        transaction.uptime,
    )
    kinds = to_array(worker.kinds)
    for queue in dict.fromkeys(worker.queues):
        freed = [n for (n,) in transaction.all("find_blocked", queue, UNKNOWN_KIND, kinds)]
        free(transaction, freed)
        if freed:
            transaction.topics.add(queue_topic(queue))


def free(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Make waiting or running jobs PENDING, at the end of the line, in this order."""
    if numbers:
        first = transaction.numbers(len(numbers))
        transaction.many("free", list(enumerate(numbers, first)))


def deregister(transaction: Transaction, worker: UUID) -> None:
    """Remove a worker."""
    transaction.run("deregister", worker.bytes)


def progress(transaction: Transaction, reports: Sequence[ProgressReport]) -> list[bool]:
    """Store the progress of running jobs."""
    stored = [
        transaction.run(
            "progress",
            report.progress.percent,
            text(report.progress.message),
            None if report.progress.details is None else msgspec.json.encode(report.progress.details),
            report.id.bytes,
            report.lease,
        ).rowcount
        == 1
        for report in reports
    ]
    if any(stored):
        transaction.topics.add(PROGRESS_TOPIC)
    return stored
