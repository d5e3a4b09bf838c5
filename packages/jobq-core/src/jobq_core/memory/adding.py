"""Adding jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from jobq_core.memory.rows import Row
from jobq_core.memory.store import Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.states import JobState
from jobq_core.storage import GATED, WAITING_TOPIC, Added, NewJob, ProducerStorage
from jobq_core.timestamps import to_moment

Moments: TypeAlias = "Sequence[tuple[int | None, int | None]]"
"""The moments of `run_at` and `deadline` of several jobs."""


class Adding(MemoryTransactions, ProducerStorage):
    """The facet of producers."""

    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        self._check_connection(connection)
        with self._transaction() as store:
            return add_all(store, jobs)


def add_all(store: Store, jobs: Sequence[NewJob]) -> list[Added]:
    """Add jobs now."""
    now = store.clock.now()
    # All times are read before the first job is stored: one that cannot be read stores none.
    times = moments_of(jobs, now)
    return [add_one(store, job, *moments, now) for job, moments in zip(jobs, times, strict=True)]


def moments_of(jobs: Sequence[NewJob], now: int) -> Moments:
    """Return the moments of `run_at` and `deadline` of each job."""
    return [
        (None, None)
        if job.run_at is None and job.deadline is None
        else (to_moment(job.run_at, now), to_moment(job.deadline, now))
        for job in jobs
    ]


def add_one(store: Store, job: NewJob, run_at: int | None, deadline: int | None, now: int) -> Added:
    """Add a job unless its id or its unique key is there. The moments are those of its times."""
    if job.id in store.jobs:
        return Added(job.id, False)
    queue = store.queue(job.queue)
    if job.unique_key is not None:
        holder = queue.keys.setdefault(job.unique_key, job.id)
        if holder != job.id:
            return Added(holder, False)
    row = Row(job, queue, now, run_at, deadline)
    if run_at is not None and run_at > now:
        store.enter(row, JobState.SCHEDULED, now, "delayed")
    elif job.gated:
        row.run_at = None
        store.enter(row, JobState.BLOCKED, now, GATED)
    else:
        store.enter(row, JobState.PENDING, now)
    if deadline is not None:
        store.topics.add(WAITING_TOPIC)
    store.jobs[job.id] = row
    return Added(job.id, True)
