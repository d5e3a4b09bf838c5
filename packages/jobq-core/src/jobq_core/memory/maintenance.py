"""Maintenance: promoting due jobs, rescuing those of lost workers, and pruning finished ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final
from uuid import UUID

from jobq_core.memory.adding import add_all
from jobq_core.memory.due_jobs import DueJobs
from jobq_core.memory.operations import forget_old
from jobq_core.memory.requests import forget_requests
from jobq_core.memory.rows import Row, WorkerRow
from jobq_core.memory.store import Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.records import deadline_passed, worker_lost
from jobq_core.states import Ending, JobState, state_after
from jobq_core.storage import (
    GATED,
    REQUEST_TOPIC,
    EndedJob,
    Expired,
    Follow,
    KeeperStorage,
    Leadership,
    LostWorker,
    Promotion,
    Rescue,
    RescuedJob,
    Retention,
)
from jobq_core.timestamps import SECOND

_REASONS: Final = {JobState.ABORTED: "aborted", JobState.DISABLED: "disabled", JobState.FAILED: "worker lost"}
"""The reasons of the states that a rescue leads to where the job does not go on."""


class Maintenance(MemoryTransactions, KeeperStorage):
    """The facet of the keeper."""

    async def lead(self, worker: UUID, term: float) -> Leadership:
        with self._transaction() as store:
            now = store.clock.steady()
            leader, until = store.leader
            if leader in (None, worker) or until <= now:
                leader, until = store.leader = (worker, now + round(term * SECOND))
            return Leadership(leader == worker, (until - now) / SECOND)

    async def resign(self, worker: UUID) -> None:
        with self._transaction() as store:
            if store.leader[0] == worker:
                store.leader = (None, 0)

    async def promote(self, limit: int = 1000) -> Promotion:
        with self._transaction() as store:
            now = store.clock.now()
            return Promotion(*_end_waits(store.due, limit, now, lambda row: store.free(row, now)))

    async def expire(self, limit: int = 1000) -> Expired:
        with self._transaction() as store:
            now = store.clock.now()

            def fail(row: Row) -> None:
                row.error = deadline_passed()
                store.move(row, JobState.FAILED, now)

            return Expired(*_end_waits(store.deadlines, limit, now, fail))

    async def admit(self, ids: Sequence[UUID]) -> int:
        with self._transaction() as store:
            now = store.clock.now()
            admitted = 0
            for row in map(store.jobs.get, ids):
                if row is not None and row.state is JobState.BLOCKED and row.reason == GATED:
                    store.move(row, JobState.PENDING, now)
                    admitted += 1
            return admitted

    async def resolve(self, limit: int = 1000, follow: Follow | None = None) -> list[EndedJob]:
        with self._transaction() as store:
            ended = list(islice(store.ended, max(limit, 0)))
            if ended and follow is not None:
                add_all(store, follow(ended))
            for _ in ended:
                store.ended.popleft()
            return ended

    async def rescue(self) -> Rescue:
        with self._transaction() as store:
            now, steady = store.clock.now(), store.clock.steady()
            lost = {key: worker for key, worker in store.workers.items() if worker.lost_at <= steady}
            rescued: dict[UUID, list[RescuedJob]] = {key: [] for key in lost}
            for key in lost:
                del store.workers[key]
            for row in list(store.running.values()):
                assert row.worker is not None
                if row.worker not in store.workers:
                    rescued.setdefault(row.worker, []).append(_take_back(store, row, lost.get(row.worker), now))
            expiry = min((worker.lost_at for worker in store.workers.values()), default=None)
            return Rescue(
                [_lost_worker(key, lost.get(key), steady, jobs) for key, jobs in rescued.items()],
                None if expiry is None else (expiry - steady) / SECOND,
            )

    async def prune(self, limit: int = 10_000) -> int:
        with self._transaction() as store:
            now = store.clock.now()
            store.tally.fold(now)
            store.depths.prune(now)
            forget_old(store, now)
            forget_requests(store, now)
            over = _over(store, limit, now)
            for row in over:
                store.drop(row, now)
            return len(over)


def _end_waits(due: DueJobs, limit: int, now: int, end: Callable[[Row], None]) -> tuple[int, float | None]:
    """End the waits of up to `limit` jobs whose moment has come.

    Returns how many, and the seconds until the next wait is over; None if no other job waits.
    """
    ended = 0
    while (first := due.first()) is not None:
        at, row = first
        if at > now:
            return ended, (at - now) / SECOND
        if ended == limit:
            return ended, 0.0
        end(row)
        ended += 1
    return ended, None


def _lost_worker(key: UUID, worker: WorkerRow | None, steady: int, jobs: list[RescuedJob]) -> LostWorker:
    if worker is None:
        return LostWorker(worker=key, name="", silent_for=0.0, jobs=jobs)
    silent_for = (steady - worker.lost_at + worker.lost_after) / SECOND
    return LostWorker(worker=key, name=worker.info.name, silent_for=silent_for, jobs=jobs)


def _take_back(store: Store, row: Row, worker: WorkerRow | None, now: int) -> RescuedJob:
    ran = row.start_marked or row.attempt == 1 < row.job.max_attempts
    error = worker_lost(row.worker, "" if worker is None else worker.info.name) if ran else None
    if error is None:
        row.attempt -= 1
    else:
        row.note_failure(error, now)
    store.topics.add(REQUEST_TOPIC)
    ending = Ending.FAIL if ran and row.attempt >= row.job.max_attempts else Ending.RETRY
    state = state_after(ending, request=row.request, waits=False)
    if state is JobState.PENDING:
        store.free(row, now)
    else:
        row.error = error
        store.move(row, state, now, _REASONS[state])
    job = row.job
    return RescuedJob(id=job.id, kind=job.kind, queue=row.queue.name, attempt=row.attempt, state=row.state)


def _over(store: Store, limit: int, now: int) -> list[Row]:
    """Return up to `limit` finished jobs whose retention is over."""
    over: list[Row] = []
    default = Retention()
    for queue in store.queues.values():
        kept = queue.kept or default
        for state, seconds in (
            (JobState.COMPLETED, kept.completed),
            (JobState.FAILED, kept.failed),
            (JobState.ABORTED, kept.aborted),
        ):
            if seconds is None:
                continue
            # A bucket is in the order of finishing: the first job that stays ends the search.
            for row in queue.buckets[state].values():
                if len(over) == limit or row.finished_at is None or row.finished_at + seconds * SECOND > now:
                    break
                over.append(row)
    return over
