"""The facet of the keeper: promoting, rescuing and pruning, which one worker does for all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from uuid import UUID

from jobq_core.records import worker_lost
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import (
    FINISHED_TOPIC,
    REQUEST_TOPIC,
    KeeperStorage,
    Leadership,
    LostWorker,
    Promotion,
    Rescue,
    RescuedJob,
    Retention,
    queue_topic,
)
from jobq_core.timestamps import SECOND
from jobq_storage_sqlite.columns import to_id
from jobq_storage_sqlite.control import remove
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.settle_and_claim import insert_attempt, topic_of
from jobq_storage_sqlite.slices import in_slices
from jobq_storage_sqlite.transaction import Transaction
from jobq_storage_sqlite.workers import free


class Maintenance(StorageOnFile, KeeperStorage):
    """Maintains through the writer."""

    async def lead(self, worker: UUID, term: float) -> Leadership:
        return await self._write(partial(lead, worker=worker, term=term))

    async def resign(self, worker: UUID) -> None:
        await self._write(partial(resign, worker=worker))

    async def promote(self, limit: int = 1000) -> Promotion:
        return await self._write(partial(promote, limit=limit))

    async def rescue(self) -> Rescue:
        return await self._write(rescue)

    async def set_retention(self, retention: Mapping[str, Retention]) -> None:
        if retention:
            await self._write(partial(set_retention, retention=retention))

    async def prune(self, limit: int = 10_000) -> int:
        usual = Retention()
        # Looked for by the reader, which keeps nobody from writing.
        prunable = await self._read(
            "find_prunable",
            now=self._moment().now,
            completed=_span(usual.completed),
            failed=_span(usual.failed),
            aborted=_span(usual.aborted),
        )
        pruned = 0
        for queue, state, ended in prunable:
            some = partial(prune_some, queue=queue, state=state, ended=ended)
            pruned += await in_slices(self._write, some, limit - pruned)
        return pruned


def lead(transaction: Transaction, worker: UUID, term: float) -> Leadership:
    """Take or renew the lease on the maintenance."""
    transaction.run("lead", worker.bytes, transaction.uptime, round(term * SECOND))
    leader, ends = transaction.one("leader")
    return Leadership(leader == worker.bytes, (ends - transaction.uptime) / SECOND)


def resign(transaction: Transaction, worker: UUID) -> None:
    """Give up the lease on the maintenance."""
    transaction.run("resign", worker.bytes)


def promote(transaction: Transaction, limit: int) -> Promotion:
    """Make due jobs PENDING."""
    rows = transaction.all("find_due", transaction.now, max(limit, 0))
    free(transaction, [n for n, _ in rows])
    transaction.topics.update(queue_topic(queue) for _, queue in rows)
    (next_at,) = transaction.one("find_next_due")
    return Promotion(len(rows), None if next_at is None else max(next_at - transaction.now, 0) / SECOND)


def rescue(transaction: Transaction) -> Rescue:
    """Remove lost workers and rescue their jobs."""
    found: dict[bytes, tuple[str, float, list[RescuedJob]]] = {
        worker: (name, _silence(transaction, beat_at, beat_uptime), [])
        for worker, name, beat_at, beat_uptime in transaction.all("find_lost_workers", transaction.uptime)
    }
    transaction.run("delete_lost_workers", transaction.uptime)
    # Jobs without a registered worker are now those of the lost workers, and of workers that were removed by hand.
    for row in transaction.all("find_orphans"):
        worker = row[3]
        name, _, jobs = found.setdefault(worker, ("", 0.0, []))
        jobs.append(_take_back(transaction, name, *row))
    return Rescue(
        [
            LostWorker(worker=to_id(worker), name=name, silent_for=silent_for, jobs=jobs)
            for worker, (name, silent_for, jobs) in found.items()
        ]
    )


def _silence(transaction: Transaction, beat_at: int, beat_uptime: int) -> float:
    """Return the seconds since a heartbeat."""
    silence = transaction.uptime - beat_uptime
    # For a heartbeat before the machine booted, only the time of day tells.
    return (silence if silence >= 0 else max(transaction.now - beat_at, 0)) / SECOND


def _take_back(
    transaction: Transaction,
    name: str,
    n: int,
    queue: str,
    lease: int,
    worker: bytes,
    started_at: int,
    attempt: int,
    request: str | None,
    job_id: bytes,
    kind: str,
    max_attempts: int,
    ran: int,
) -> RescuedJob:
    if ran:
        insert_attempt(transaction, n, lease, attempt, worker, started_at, worker_lost(to_id(worker), name or ""))
    else:
        attempt -= 1
    if request == StopRequest.ABORT:
        state = _end(transaction, n, lease if ran else None, JobState.ABORTED, "aborted")
    elif request == StopRequest.DISABLE:
        transaction.run("disable_rescued", n)
        state = JobState.DISABLED
    elif ran and attempt >= max_attempts:
        state = _end(transaction, n, lease, JobState.FAILED, "worker lost")
    else:
        free(transaction, [n])
        state = JobState.PENDING
    if not ran:
        transaction.run("give_back", n)
    transaction.topics |= {topic_of(state, queue), REQUEST_TOPIC}
    return RescuedJob(id=to_id(job_id), kind=kind, queue=queue, attempt=attempt, state=state)


def _end(transaction: Transaction, n: int, lease: int | None, state: JobState, reason: str) -> JobState:
    transaction.run("end_rescued", state.value, reason, transaction.now, lease, n)
    return state


def set_retention(transaction: Transaction, retention: Mapping[str, Retention]) -> None:
    """Store how long queues keep finished jobs."""
    transaction.many(
        "set_retention",
        [(queue, _span(kept.completed), _span(kept.failed), _span(kept.aborted)) for queue, kept in retention.items()],
    )


def _span(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SECOND)


def prune_some(transaction: Transaction, queue: str, state: str, ended: int, size: int) -> int:
    """Delete up to `size` finished jobs of a queue and a state that ended until then; return their number."""
    pruned = [n for (n,) in transaction.all("find_expired", queue, state, ended, size)]
    if pruned:
        remove(transaction, pruned)
        transaction.topics.add(FINISHED_TOPIC)
    return len(pruned)
