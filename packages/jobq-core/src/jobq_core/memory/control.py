"""What people do to jobs: abort, disable, enable, retry and delete them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from jobq_core.memory.rows import Row
from jobq_core.memory.store import Store
from jobq_core.states import FINISHED, JobState, StopRequest
from jobq_core.storage import REQUEST_TOPIC, Change


def change(store: Store, ids: Sequence[UUID], act: Callable[[Store, Row, int], Change]) -> list[Change]:
    """Do something to each job that is there."""
    now = store.now()
    changes: list[Change] = []
    for job_id in ids:
        row = store.jobs.get(job_id)
        changes.append(Change(job_id, None, None) if row is None else act(store, row, now))
    return changes


def abort_one(store: Store, row: Row, now: int) -> Change:
    """Abort a job; see `QueueStorage.abort`."""
    before = row.state
    if before is JobState.PROCESSING:
        return _ask(store, row, StopRequest.ABORT)
    if before not in FINISHED:
        store.finish(row, JobState.ABORTED, now, "aborted")
    return Change(row.asked.id, before, row.state)


def disable_one(store: Store, row: Row, now: int) -> Change:
    """Put a job aside; see `QueueStorage.disable`. An abort that was asked for stands."""
    before = row.state
    if before is JobState.PROCESSING:
        return _ask(store, row, row.request or StopRequest.DISABLE)
    if before not in FINISHED and before is not JobState.DISABLED:
        store.move(row, JobState.DISABLED)
        row.reason = "disabled"
    return Change(row.asked.id, before, row.state)


def enable_one(store: Store, row: Row, now: int) -> Change:
    """Let a job run again that was put aside; see `QueueStorage.enable`."""
    before = row.state
    if before is JobState.DISABLED:
        waits = row.run_at is not None and row.run_at > now
        store.move(row, JobState.SCHEDULED if waits else JobState.PENDING)
        row.reason = "delayed" if waits else None
        row.error = None
    elif before is JobState.PROCESSING and row.request is StopRequest.DISABLE:
        return _ask(store, row, None)
    return Change(row.asked.id, before, row.state)


def retry_one(store: Store, row: Row, now: int) -> Change:
    """Put a job back that failed or was aborted; see `QueueStorage.retry`."""
    before = row.state
    if before is JobState.FAILED or before is JobState.ABORTED:
        key = row.asked.unique_key
        if key is not None and store.keys.setdefault((row.queue.name, key), row.asked.id) != row.asked.id:
            return Change(row.asked.id, before, before)
        store.move(row, JobState.PENDING)
        row.attempt = 0
        row.finished_at = None
        row.error = None
        row.reason = None
        row.progress = None
    return Change(row.asked.id, before, row.state)


def delete_one(store: Store, row: Row, now: int) -> Change:
    """Remove a job; see `QueueStorage.delete`."""
    store.drop(row)
    return Change(row.asked.id, row.state, None)


def abort_run(store: Store, run_id: str) -> list[Change]:
    """Abort the unfinished jobs of a run, oldest first."""
    rows = (row for row in store.jobs.values() if row.asked.run_id == run_id and row.state not in FINISHED)
    ids = sorted(row.asked.id for row in rows)
    return change(store, ids, abort_one)


def clear(store: Store, queue: str) -> int:
    """Remove all jobs of a queue."""
    rows = [row for row in store.jobs.values() if row.asked.queue == queue]
    for row in rows:
        store.drop(row)
    return len(rows)


def _ask(store: Store, row: Row, request: StopRequest | None) -> Change:
    row.request = request
    store.rings.add(REQUEST_TOPIC)
    return Change(row.asked.id, row.state, row.state, asked=True)
