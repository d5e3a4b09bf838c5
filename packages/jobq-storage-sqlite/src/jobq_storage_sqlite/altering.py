"""Changing the time, the queue and the priority of jobs by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from jobq_core.states import WAITING, JobState
from jobq_core.storage import WAITING_TOPIC, Change, OperatorStorage, queue_topic
from jobq_core.timestamps import to_moment
from jobq_storage_sqlite.columns import to_id
from jobq_storage_sqlite.control import Found, find_job, to_end_of_line
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.slices import change_in_slices
from jobq_storage_sqlite.spans import span_of
from jobq_storage_sqlite.suspending import SUSPENDED, suspend
from jobq_storage_sqlite.transaction import Transaction

Alter = Callable[[Transaction, Found], JobState | None]
"""Changes a job and returns its state after that; None if it does not change such a job."""

TIMED: Final = frozenset({JobState.SCHEDULED, JobState.BLOCKED})
"""The states that may end at a time."""

UNCLAIMED: Final = WAITING | {JobState.PENDING}
"""The states of jobs that can still be moved."""


class Altering(StorageOnFile, OperatorStorage):
    """Changes what a job waits for, and where, through the writer."""

    async def run_now(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._alter(ids, run_now)

    async def reschedule(self, ids: Sequence[UUID], run_at: datetime) -> list[Change]:
        return await self._alter(ids, partial(reschedule, run_at=to_moment(run_at, 0)))

    async def move(self, ids: Sequence[UUID], queue: str) -> list[Change]:
        return await self._alter(ids, partial(move, queue=queue))

    async def set_priority(self, ids: Sequence[UUID], priority: int) -> list[Change]:
        return await self._alter(ids, partial(set_priority, priority=priority))

    async def _alter(self, ids: Sequence[UUID], act: Alter) -> list[Change]:
        return await change_in_slices(self._write, partial(alter, act=act), ids)


def alter(transaction: Transaction, ids: Sequence[UUID], act: Alter) -> list[Change]:
    """Change each job that exists, one after the other."""
    changes: list[Change] = []
    for job_id in ids:
        job = find_job(transaction, job_id)
        if job is None:
            changes.append(Change(job_id, None, None))
        else:
            after = act(transaction, job)
            changes.append(Change(job_id, job.state, after or job.state, altered=after is not None))
    return changes


def run_now(transaction: Transaction, job: Found) -> JobState | None:
    """Make a job that waits for a time PENDING."""
    if job.state not in TIMED or job.run_at is None:
        return None
    transaction.run("set_time", None, job.n)
    return to_end_of_line(transaction, job)


def reschedule(transaction: Transaction, job: Found, run_at: int) -> JobState | None:
    """Have a job wait until a moment. One that has come ends its wait."""
    if job.state is JobState.DISABLED:
        transaction.run("set_time", run_at, job.n)
        return job.state
    if run_at <= transaction.now:
        return run_now(transaction, job)
    if job.state not in (JobState.SCHEDULED, JobState.PENDING):
        return None
    transaction.run("reschedule", run_at=run_at, now=transaction.now, n=job.n)
    transaction.topics.add(WAITING_TOPIC)
    return JobState.SCHEDULED


def move(transaction: Transaction, job: Found, queue: str) -> JobState | None:
    """Move a job that waits or is PENDING to another queue."""
    if job.state not in UNCLAIMED or job.queue == queue:
        return None
    transaction.run("move", queue, job.n)
    transaction.spans.add(("queue", queue, span_of(to_id(job.id))))
    moved = replace(job, queue=queue)
    if job.state is JobState.PENDING:
        _place(transaction, moved, job.priority)
    elif job.state is JobState.BLOCKED and job.reason in SUSPENDED:
        suspend(transaction, moved, job.extra)
    return job.state


def set_priority(transaction: Transaction, job: Found, priority: int) -> JobState | None:
    """Change the priority of a job that waits or is PENDING."""
    if job.state not in UNCLAIMED or job.priority == priority:
        return None
    transaction.run("set_priority", priority, job.n)
    if job.state is JobState.PENDING:
        _place(transaction, job, priority)
    return job.state


def _place(transaction: Transaction, job: Found, priority: int) -> None:
    """Put a PENDING job at the end of the line of its queue and a priority."""
    transaction.run("place", transaction.numbers(1), -priority, job.n)
    transaction.topics.add(queue_topic(job.queue))
