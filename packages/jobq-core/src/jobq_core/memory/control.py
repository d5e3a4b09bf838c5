"""Changing jobs by hand: abort, disable, enable, retry and delete them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from jobq_core.memory.rows import Row
from jobq_core.memory.store import Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.states import FINISHED, JobState, StopRequest
from jobq_core.storage import REQUEST_TOPIC, Change, OperatorStorage, QueueOptions, QueueOwner

CHUNK: Final = 1000
"""Number of jobs that one transaction of an operation on many jobs changes."""


class Control(MemoryTransactions, OperatorStorage):
    """The facet of operators."""

    async def abort(self, ids: Sequence[UUID], *, connection: Any = None) -> list[Change]:
        self._check_connection(connection)
        return self._change(ids, _abort_one)

    async def abort_run(self, run_id: str, *, on_progress: Callable[[int], object] | None = None) -> list[Change]:
        with self._transaction() as store:
            ids = sorted(row.job.id for row in store.jobs.values() if row.job.run_id == run_id and _is_unfinished(row))
        changes: list[Change] = []
        for chunk in _chunks(ids):
            changes += self._change(chunk, _abort_one)
            if on_progress is not None:
                on_progress(len(changes))
        return [change for change in changes if change.before is not None and change.before not in FINISHED]

    async def retry(self, ids: Sequence[UUID], *, connection: Any = None) -> list[Change]:
        self._check_connection(connection)
        return self._change(ids, _retry_one)

    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, _disable_one)

    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, _enable_one)

    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, _delete_one)

    async def clear(self, queue: str, *, on_progress: Callable[[int], object] | None = None) -> int:
        with self._transaction() as store:
            ids = sorted(row.job.id for row in store.jobs.values() if row.queue.name == queue)
        removed = 0
        for chunk in _chunks(ids):
            removed += sum(change.before is not None for change in self._change(chunk, _delete_one))
            if on_progress is not None:
                on_progress(removed)
        return removed

    async def set_queue(self, queue: str, options: QueueOptions, owner: QueueOwner = "operator") -> None:
        with self._transaction() as store:
            row = store.queue(queue)
            if options.retention is not None and (owner == "operator" or row.owner != "operator"):
                row.kept, row.owner = options.retention, owner
            if options.paused is None or owner != "operator":
                return
            if not options.paused:
                row.paused_at = row.paused_by = None
                store.topics.add(row.topic)
            elif row.paused_at is None:
                row.paused_at, row.paused_by = store.clock.now(), options.actor

    def _change(self, ids: Sequence[UUID], change: Callable[[Store, Row, int], Change]) -> list[Change]:
        with self._transaction() as store:
            return change_jobs(store, ids, change)


def change_jobs(store: Store, ids: Sequence[UUID], change: Callable[[Store, Row, int], Change]) -> list[Change]:
    """Change the jobs that exist; the others are answered with `before` None."""
    now = store.clock.now()
    changes: list[Change] = []
    for job_id in ids:
        row = store.jobs.get(job_id)
        changes.append(Change(job_id, None, None) if row is None else change(store, row, now))
    return changes


def _chunks(ids: list[UUID]) -> Iterator[list[UUID]]:
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))


def _is_unfinished(row: Row) -> bool:
    return row.state not in FINISHED


def _abort_one(store: Store, row: Row, now: int) -> Change:
    before = row.state
    if before is JobState.PROCESSING:
        return _ask(store, row, StopRequest.ABORT)
    if before not in FINISHED:
        store.move(row, JobState.ABORTED, now, "aborted")
    return Change(row.job.id, before, row.state)


def _disable_one(store: Store, row: Row, now: int) -> Change:
    before = row.state
    if before is JobState.PROCESSING:
        if row.request is StopRequest.ABORT:
            return Change(row.job.id, before, before)
        return _ask(store, row, StopRequest.DISABLE)
    if before not in FINISHED and before is not JobState.DISABLED:
        store.move(row, JobState.DISABLED, now, "disabled")
    return Change(row.job.id, before, row.state)


def _enable_one(store: Store, row: Row, now: int) -> Change:
    before = row.state
    if before is JobState.DISABLED:
        row.error = None
        if row.run_at is not None and row.run_at > now:
            store.move(row, JobState.SCHEDULED, now, "delayed")
        else:
            store.free(row, now)
    elif before is JobState.PROCESSING and row.request is StopRequest.DISABLE:
        return _ask(store, row, None)
    return Change(row.job.id, before, row.state)


def _retry_one(store: Store, row: Row, now: int) -> Change:
    before = row.state
    if before is JobState.FAILED or before is JobState.ABORTED:
        key = row.job.unique_key
        if key is not None and store.queue(row.job.queue).keys.setdefault(key, row.job.id) != row.job.id:
            return Change(row.job.id, before, before)
        row.attempt = 0
        row.finished_at = None
        row.error = None
        row.progress = None
        store.free(row, now)
    return Change(row.job.id, before, row.state)


def _delete_one(store: Store, row: Row, now: int) -> Change:
    store.drop(row, now)
    return Change(row.job.id, row.state, None)


def _ask(store: Store, row: Row, request: StopRequest | None) -> Change:
    row.request = request
    store.topics.add(REQUEST_TOPIC)
    return Change(row.job.id, row.state, row.state, asked=True)
