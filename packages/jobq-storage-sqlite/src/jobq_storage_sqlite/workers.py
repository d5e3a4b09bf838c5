"""Workers: registration, heartbeats and progress."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

import msgspec

from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import PROGRESS_TOPIC, WAITING_TOPIC, ProgressReport, WorkerStorage
from jobq_core.timestamps import SECOND
from jobq_storage_sqlite.columns import from_progress, text, to_array
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
    """Add a worker, or renew its registration."""
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
        msgspec.json.encode(worker.versions).decode(),
        msgspec.json.encode(WorkerStats()).decode(),
        transaction.now,
        transaction.now,
        transaction.uptime,
    )
    transaction.topics.add(WAITING_TOPIC)


def deregister(transaction: Transaction, worker: UUID) -> None:
    """Remove a worker."""
    transaction.run("deregister", worker.bytes)
    transaction.run("delete_requests_to", worker.bytes)


def progress(transaction: Transaction, reports: Sequence[ProgressReport]) -> list[bool]:
    """Store the progress of running jobs."""
    stored = [
        transaction.run(
            "progress",
            *from_progress(report.progress),
            report.id.bytes,
            report.lease,
        ).rowcount
        == 1
        for report in reports
    ]
    if any(stored):
        transaction.topics.add(PROGRESS_TOPIC)
    return stored
