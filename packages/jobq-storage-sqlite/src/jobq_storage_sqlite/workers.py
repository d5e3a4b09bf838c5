"""Workers, their heartbeats, and the lease on maintenance."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from jobq_core.records import WorkerInfo, WorkerRecord, WorkerStats, decode_stats
from jobq_core.storage import PROGRESS_TOPIC, UNKNOWN_KIND, Leadership, ProgressReport, queue_topic
from jobq_core.timestamps import SECOND, to_datetime
from jobq_storage_sqlite.columns import text, to_array, to_id
from jobq_storage_sqlite.transaction import Transaction


def register(transaction: Transaction, worker: WorkerInfo) -> None:
    """Make a worker known; see `QueueStorage.register`."""
    lost_after = round(worker.lost_after * SECOND)
    transaction.run(
        "register",
        worker.id.bytes,
        transaction.numbers(1),
        msgspec.json.encode(worker).decode(),
        msgspec.json.encode(WorkerStats()).decode(),
        lost_after,
        transaction.now,
        transaction.now,
        transaction.uptime,
    )
    kinds = to_array(worker.kinds)
    for queue in dict.fromkeys(worker.queues):
        freed = [n for (n,) in transaction.all("blocked_as", queue, UNKNOWN_KIND, kinds)]
        free(transaction, freed)
        if freed:
            transaction.topics.add(queue_topic(queue))


def free(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Make waiting or running jobs PENDING, at the end of the line, in this order."""
    if numbers:
        first = transaction.numbers(len(numbers))
        transaction.many("free", list(enumerate(numbers, first)))


def beat(transaction: Transaction, worker: UUID, stats: WorkerStats) -> bool:
    """Renew a worker's row; see `Heartbeat.beat`."""
    said = msgspec.json.encode(stats).decode()
    return transaction.run("beat", said, transaction.now, transaction.uptime, worker.bytes).rowcount == 1


def deregister(transaction: Transaction, worker: UUID) -> None:
    """Forget a worker; see `QueueStorage.deregister`."""
    transaction.run("deregister", worker.bytes)


def workers(transaction: Transaction) -> list[WorkerRecord]:
    """Return the registered workers; see `QueueStorage.workers`."""
    return [
        WorkerRecord(
            info=_info(worker, info),
            started_at=to_datetime(started_at),
            beat_at=to_datetime(beat_at),
            expires_at=to_datetime(expires_at),
            stats=decode_stats(stats),
        )
        for worker, info, stats, started_at, beat_at, expires_at in transaction.all("workers")
    ]


def _info(worker: bytes, data: str) -> WorkerInfo:
    try:
        return msgspec.json.decode(data, type=WorkerInfo)
    except msgspec.DecodeError:
        # A row by a stranger's hand: shown by its id, until it expires.
        return WorkerInfo(id=to_id(worker), name="", host="", pid=0, queues=(), kinds=(), concurrency=0, lost_after=0.0)


def progress(transaction: Transaction, reports: Sequence[ProgressReport]) -> list[bool]:
    """Store how far running jobs are; see `QueueStorage.progress`."""
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


def lead(transaction: Transaction, worker: UUID, term: float) -> Leadership:
    """Take or renew the lease on maintenance; see `QueueStorage.lead`."""
    transaction.run("lead", worker.bytes, transaction.uptime, round(term * SECOND))
    leader, ends = transaction.one("leader")
    return Leadership(leader == worker.bytes, (ends - transaction.uptime) / SECOND)


def resign(transaction: Transaction, worker: UUID) -> None:
    """Give the lease on maintenance up; see `QueueStorage.resign`."""
    transaction.run("resign", worker.bytes)
