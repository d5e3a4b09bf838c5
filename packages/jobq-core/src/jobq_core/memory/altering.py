"""Changing the time, the queue and the priority of jobs by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from jobq_core.memory.control import change_jobs
from jobq_core.memory.rows import Row
from jobq_core.memory.store import TIMED, Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.states import WAITING, JobState
from jobq_core.storage import Change, OperatorStorage
from jobq_core.timestamps import to_moment

_UNCLAIMED: Final = WAITING | {JobState.PENDING}


class Altering(MemoryTransactions, OperatorStorage):
    """The operations of the facet of operators on what a job waits for."""

    async def run_now(self, ids: Sequence[UUID]) -> list[Change]:
        with self._transaction() as store:
            return change_jobs(store, ids, _run_now_one)

    async def reschedule(self, ids: Sequence[UUID], run_at: datetime) -> list[Change]:
        with self._transaction() as store:
            moment = to_moment(run_at, store.clock.now())
            return change_jobs(store, ids, lambda store, row, now: _reschedule_one(store, row, now, moment))

    async def move(self, ids: Sequence[UUID], queue: str) -> list[Change]:
        with self._transaction() as store:
            return change_jobs(store, ids, lambda store, row, now: _move_one(store, row, queue))

    async def set_priority(self, ids: Sequence[UUID], priority: int) -> list[Change]:
        with self._transaction() as store:
            return change_jobs(store, ids, lambda store, row, now: _set_priority_one(store, row, priority))


def _unchanged(row: Row) -> Change:
    return Change(row.job.id, row.state, row.state)


def _run_now_one(store: Store, row: Row, now: int) -> Change:
    before = row.state
    if before not in TIMED or row.run_at is None:
        return _unchanged(row)
    store.free(row, now)
    row.run_at = None
    return Change(row.job.id, before, row.state, altered=True)


def _reschedule_one(store: Store, row: Row, now: int, moment: int) -> Change:
    before = row.state
    if before is JobState.DISABLED:
        row.run_at = moment
        return Change(row.job.id, before, before, altered=True)
    if moment <= now:
        return _run_now_one(store, row, now)
    if before is JobState.SCHEDULED:
        store.reschedule(row, moment)
    elif before is JobState.PENDING:
        store.leave(row)
        row.run_at = moment
        store.enter(row, JobState.SCHEDULED, now, "delayed")
    else:
        return _unchanged(row)
    return Change(row.job.id, before, row.state, altered=True)


def _move_one(store: Store, row: Row, queue: str) -> Change:
    if row.state not in _UNCLAIMED or row.queue.name == queue:
        return _unchanged(row)
    store.transfer(row, store.queue(queue))
    return Change(row.job.id, row.state, row.state, altered=True)


def _set_priority_one(store: Store, row: Row, priority: int) -> Change:
    if row.state not in _UNCLAIMED or row.job.priority == priority:
        return _unchanged(row)
    job = msgspec.structs.replace(row.job, priority=priority)
    if row.state is JobState.PENDING:
        store.leave(row)
        row.job = job
        store.enter(row, JobState.PENDING, row.since)
    else:
        row.job = job
    return Change(row.job.id, row.state, row.state, altered=True)
