"""Workers, and the maintenance that one of them does for all."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from uuid import UUID

from jobq_core.memory.rows import Row, WorkerRow, copy_stats
from jobq_core.memory.store import Store
from jobq_core.records import WorkerInfo, WorkerStats, worker_lost
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import (
    REQUEST_TOPIC,
    UNKNOWN_KIND,
    Leadership,
    LostWorker,
    Promotion,
    RescuedJob,
    Retention,
)
from jobq_core.timestamps import SECOND


def register(store: Store, info: WorkerInfo) -> None:
    """Make a worker known; see `QueueStorage.register`."""
    worker = store.workers.get(info.id)
    if worker is None:
        worker = store.workers[info.id] = WorkerRow(info, store.now(), 0, 0, WorkerStats())
    worker.info = info
    _renew(store, worker)
    for name in info.queues:
        if name in store.queues:
            blocked = store.queues[name].places[JobState.BLOCKED].values()
            for row in [row for row in blocked if row.reason == UNKNOWN_KIND and row.asked.kind in info.kinds]:
                _free(store, row)


def _renew(store: Store, worker: WorkerRow) -> None:
    worker.beat_at = store.now()
    worker.lost_at = store.steady() + worker.lost_after


def is_alive(store: Store, worker: UUID) -> bool:
    """Say whether a worker may claim jobs."""
    row = store.workers.get(worker)
    return row is not None and row.lost_at > store.steady()


def beat(store: Store, worker: UUID, stats: WorkerStats) -> bool:
    """Renew a worker's row; see `Heartbeat.beat`."""
    row = store.workers.get(worker)
    if row is None:
        return False
    _renew(store, row)
    row.stats = copy_stats(stats)
    return True


def lead(store: Store, worker: UUID, term: float) -> Leadership:
    """Take or renew the lease on maintenance; see `QueueStorage.lead`."""
    now = store.steady()
    if store.leader in (None, worker) or store.leader_until <= now:
        store.leader = worker
        store.leader_until = now + round(term * SECOND)
    return Leadership(store.leader == worker, (store.leader_until - now) / SECOND)


def resign(store: Store, worker: UUID) -> None:
    """Give the lease on maintenance up; see `QueueStorage.resign`."""
    if store.leader == worker:
        store.leader = None


def promote(store: Store, limit: int) -> Promotion:
    """Make due jobs PENDING; see `QueueStorage.promote`."""
    now = store.now()
    promoted = 0
    while store.due:
        run_at, token, row = store.due[0]
        if row.token != token:
            heapq.heappop(store.due)
        elif run_at > now:
            return Promotion(promoted, (run_at - now) / SECOND)
        elif promoted == limit:
            return Promotion(promoted, 0.0)
        else:
            heapq.heappop(store.due)
            _free(store, row)
            promoted += 1
    return Promotion(promoted, None)


def _free(store: Store, row: Row) -> None:
    store.move(row, JobState.PENDING)
    row.reason = None


def rescue(store: Store) -> list[LostWorker]:
    """Take jobs back from lost workers; see `QueueStorage.rescue`."""
    now, steady = store.now(), store.steady()
    lost = {key: worker for key, worker in store.workers.items() if worker.lost_at <= steady}
    held: dict[UUID, list[RescuedJob]] = {key: [] for key in lost}
    for key in lost:
        del store.workers[key]
    for row in list(store.running.values()):
        assert row.worker is not None
        if row.worker not in store.workers:
            held.setdefault(row.worker, []).append(_take_back(store, row, lost.get(row.worker), now))
    return [
        LostWorker(
            worker=key,
            name=lost[key].info.name if key in lost else "",
            silent_for=(steady - lost[key].lost_at + lost[key].lost_after) / SECOND if key in lost else 0.0,
            jobs=jobs,
        )
        for key, jobs in held.items()
    ]


def _take_back(store: Store, row: Row, worker: WorkerRow | None, now: int) -> RescuedJob:
    ran = row.begun or row.attempt == 1 < row.asked.max_attempts
    error = worker_lost(row.worker, "" if worker is None else worker.info.name) if ran else None
    if error is None:
        row.attempt -= 1
    else:
        row.note_failure(error, now)
    store.rings.add(REQUEST_TOPIC)
    if row.request is StopRequest.ABORT:
        store.finish(row, JobState.ABORTED, now, "aborted")
        row.error = error
    elif row.request is StopRequest.DISABLE:
        store.move(row, JobState.DISABLED)
        row.reason = "disabled"
    elif ran and row.attempt >= row.asked.max_attempts:
        store.finish(row, JobState.FAILED, now, "worker lost")
        row.error = error
    else:
        _free(store, row)
    asked = row.asked
    return RescuedJob(id=asked.id, kind=asked.kind, queue=asked.queue, attempt=row.attempt, state=row.state)


def set_retention(store: Store, retention: Mapping[str, Retention]) -> None:
    """Store how long queues keep finished jobs; see `QueueStorage.set_retention`."""
    for name, kept in retention.items():
        store.queue(name).retention = kept


def prune(store: Store, limit: int) -> int:
    """Remove finished jobs whose time is over; see `QueueStorage.prune`."""
    now = store.now()
    over: list[Row] = []
    for queue in store.queues.values():
        kept = queue.retention
        for state, seconds in (
            (JobState.COMPLETED, kept.completed),
            (JobState.FAILED, kept.failed),
            (JobState.ABORTED, kept.aborted),
        ):
            if seconds is None:
                continue
            # They stand in the order of finishing, so the first one that stays ends the search.
            for row in queue.places[state].values():
                if len(over) == limit or row.finished_at is None or row.finished_at + seconds * SECOND > now:
                    break
                over.append(row)
    for row in over:
        store.drop(row)
    return len(over)
