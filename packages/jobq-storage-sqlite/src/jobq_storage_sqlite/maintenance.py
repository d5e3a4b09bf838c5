"""The maintenance that one worker does for all: promote, rescue, prune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobq_core.records import worker_lost
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import (
    FINISHED_TOPIC,
    REQUEST_TOPIC,
    LostWorker,
    Promotion,
    RescuedJob,
    Retention,
    queue_topic,
)
from jobq_core.timestamps import SECOND
from jobq_storage_sqlite.columns import ABORTED, CODE, COMPLETED, FAILED, to_id
from jobq_storage_sqlite.control import remove
from jobq_storage_sqlite.settle_and_claim import keep_error, topic_of
from jobq_storage_sqlite.transaction import Transaction
from jobq_storage_sqlite.workers import free


def promote(transaction: Transaction, limit: int) -> Promotion:
    """Make due jobs PENDING; see `QueueStorage.promote`."""
    rows = transaction.all("promote", transaction.now, max(limit, 0))
    free(transaction, [n for n, _ in rows])
    transaction.topics.update(queue_topic(queue) for _, queue in rows)
    (next_at,) = transaction.one("next_due")
    return Promotion(len(rows), None if next_at is None else max(next_at - transaction.now, 0) / SECOND)


def rescue(transaction: Transaction) -> list[LostWorker]:
    """Take jobs back from lost workers; see `QueueStorage.rescue`."""
    found: dict[bytes, tuple[str, float, list[RescuedJob]]] = {
        worker: (name, _silence(transaction, beat_at, beat_uptime), [])
        for worker, name, beat_at, beat_uptime in transaction.all("expired", transaction.uptime)
    }
    transaction.run("forget_expired", transaction.uptime)
    # Now no lost worker is registered any more, and what they held is what no registered worker holds.
    for row in transaction.all("orphans"):
        worker = row[3]
        name, _, jobs = found.setdefault(worker, ("", 0.0, []))
        jobs.append(_take_back(transaction, name, *row))
    return [
        LostWorker(worker=to_id(worker), name=name, silent_for=silent_for, jobs=jobs)
        for worker, (name, silent_for, jobs) in found.items()
    ]


def _silence(transaction: Transaction, beat_at: int, beat_uptime: int) -> float:
    """Return the seconds since a heartbeat."""
    silence = transaction.uptime - beat_uptime
    # One from before the machine booted can only be told by the time of day.
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
        keep_error(transaction, n, lease, attempt, worker, started_at, worker_lost(to_id(worker), name or ""))
    else:
        transaction.run("give_back", n)
        attempt = max(attempt - 1, 0)
    if request == StopRequest.ABORT:
        state = _end(transaction, n, lease if ran else None, JobState.ABORTED, "aborted")
    elif request == StopRequest.DISABLE:
        transaction.run("rescue_disabled", n)
        state = JobState.DISABLED
    elif ran and attempt >= max_attempts:
        state = _end(transaction, n, lease, JobState.FAILED, "worker lost")
    else:
        free(transaction, [n])
        state = JobState.PENDING
    transaction.topics |= {topic_of(state, queue), REQUEST_TOPIC}
    return RescuedJob(id=to_id(job_id), kind=kind, queue=queue, attempt=attempt, state=state)


def _end(transaction: Transaction, n: int, lease: int | None, state: JobState, reason: str) -> JobState:
    transaction.run("rescue_end", CODE[state], reason, transaction.now, lease, n)
    return state


def set_retention(transaction: Transaction, retention: Mapping[str, Retention]) -> None:
    """Store how long queues keep finished jobs; see `QueueStorage.set_retention`."""
    transaction.many(
        "set_retention",
        [(queue, _span(kept.completed), _span(kept.failed), _span(kept.aborted)) for queue, kept in retention.items()],
    )


def _span(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SECOND)


def prune(transaction: Transaction, limit: int) -> int:
    """Remove finished jobs whose time is over; see `QueueStorage.prune`."""
    kept: dict[str, Any] = {queue: spans for queue, *spans in transaction.all("retentions")}
    usual = Retention()
    pruned: list[int] = []
    for (queue,) in transaction.all("finished_queues"):
        spans = kept.get(queue, (_span(usual.completed), _span(usual.failed), _span(usual.aborted)))
        for state, span in zip((COMPLETED, FAILED, ABORTED), spans, strict=True):
            if span is not None and len(pruned) < limit:
                rows = transaction.all("over", queue, state, transaction.now - span, limit - len(pruned))
                pruned += [n for (n,) in rows]
    if pruned:
        remove(transaction, pruned)
        transaction.topics.add(FINISHED_TOPIC)
    return len(pruned)
