"""Changing jobs by hand: abort, disable, enable, retry and delete them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from jobq_core.memory.rows import Row
from jobq_core.memory.store import Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.states import FINISHED, JobState, StopRequest
from jobq_core.storage import REQUEST_TOPIC, Change, OperatorStorage


class Control(MemoryTransactions, OperatorStorage):
    """The facet of operators."""

    async def abort(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, _abort_one)

    async def abort_run(self, run_id: str, *, on_progress: Callable[[int], object] | None = None) -> list[Change]:
        with self._transaction() as store:
            now = store.clock.now()
            rows = [row for row in store.jobs.values() if row.job.run_id == run_id and row.state not in FINISHED]
            return [_abort_one(store, row, now) for row in sorted(rows, key=lambda row: row.job.id)]

    async def retry(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, _retry_one)

    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, _disable_one)

    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, _enable_one)

    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        return self._change(ids, _delete_one)

    async def clear(self, queue: str, *, on_progress: Callable[[int], object] | None = None) -> int:
        with self._transaction() as store:
            rows = [row for row in store.jobs.values() if row.job.queue == queue]
            for row in rows:
                store.drop(row)
            return len(rows)

    def _change(self, ids: Sequence[UUID], change: Callable[[Store, Row, int], Change]) -> list[Change]:
        with self._transaction() as store:
            now = store.clock.now()
            changes: list[Change] = []
            for job_id in ids:
                row = store.jobs.get(job_id)
                changes.append(Change(job_id, None, None) if row is None else change(store, row, now))
            return changes


def _abort_one(store: Store, row: Row, now: int) -> Change:
    before = row.state
    if before is JobState.PROCESSING:
        return _ask(store, row, StopRequest.ABORT)
    if before not in FINISHED:
        store.finish(row, JobState.ABORTED, now, "aborted")
    return Change(row.job.id, before, row.state)


def _disable_one(store: Store, row: Row, now: int) -> Change:
    before = row.state
    if before is JobState.PROCESSING:
        return _ask(store, row, row.request or StopRequest.DISABLE)
    if before not in FINISHED and before is not JobState.DISABLED:
        store.move(row, JobState.DISABLED)
        row.reason = "disabled"
    return Change(row.job.id, before, row.state)


def _enable_one(store: Store, row: Row, now: int) -> Change:
    before = row.state
    if before is JobState.DISABLED:
        waits = row.run_at is not None and row.run_at > now
        store.move(row, JobState.SCHEDULED if waits else JobState.PENDING)
        row.reason = "delayed" if waits else None
        row.error = None
    elif before is JobState.PROCESSING and row.request is StopRequest.DISABLE:
        return _ask(store, row, None)
    return Change(row.job.id, before, row.state)


def _retry_one(store: Store, row: Row, now: int) -> Change:
    before = row.state
    if before is JobState.FAILED or before is JobState.ABORTED:
        key = row.job.unique_key
        if key is not None and row.queue.keys.setdefault(key, row.job.id) != row.job.id:
            return Change(row.job.id, before, before)
        store.move(row, JobState.PENDING)
        row.attempt = 0
        row.finished_at = None
        row.error = None
        row.reason = None
        row.progress = None
    return Change(row.job.id, before, row.state)


def _delete_one(store: Store, row: Row, now: int) -> Change:
    store.drop(row)
    return Change(row.job.id, row.state, None)


def _ask(store: Store, row: Row, request: StopRequest | None) -> Change:
    row.request = request
    store.topics.add(REQUEST_TOPIC)
    return Change(row.job.id, row.state, row.state, asked=True)
