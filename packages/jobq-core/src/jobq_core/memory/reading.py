"""What can be read of jobs."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from uuid import UUID

from jobq_core.memory.rows import Row
from jobq_core.memory.store import Store
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, JobStatus, Page


def find(store: Store, filter: JobFilter, after: UUID | None, limit: int) -> Page:
    """Return matching jobs, newest first; see `QueueStorage.find`."""
    matching = (row for row in store.jobs.values() if (after is None or row.asked.id < after) and _matches(row, filter))
    # One more than asked for tells whether there is a next page.
    rows = heapq.nlargest(limit + 1, matching, key=lambda row: row.asked.id.int)
    jobs = [row.record() for row in rows[:limit]]
    return Page(jobs, jobs[-1].id if jobs and len(rows) > limit else None)


def _matches(row: Row, filter: JobFilter) -> bool:
    asked = row.asked
    return (
        (filter.queue is None or asked.queue == filter.queue)
        and (not filter.states or row.state in filter.states)
        and (not filter.kinds or asked.kind in filter.kinds)
        and (filter.run_id is None or asked.run_id == filter.run_id)
        and all(tag in asked.tags for tag in filter.tags)
    )


def counts(store: Store, name: str | None) -> Mapping[str, Mapping[JobState, int]]:
    """Count jobs by queue and state; see `QueueStorage.counts`."""
    counted: dict[str, dict[JobState, int]] = {}
    for queue in store.queues.values():
        if name is None or queue.name == name:
            counted[queue.name] = {state: len(queue.places.get(state, ())) for state in JobState}
            counted[queue.name][JobState.PENDING] = sum(map(len, queue.lines.values()))
    for row in store.running.values():
        if name is None or row.asked.queue == name:
            counted[row.asked.queue][JobState.PROCESSING] += 1
    if name is not None:
        return counted or {name: dict.fromkeys(JobState, 0)}
    # A queue is its jobs: one that has none any more is not there.
    return {queue: states for queue, states in counted.items() if any(states.values())}


def output_for(store: Store, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
    """Return the newest completed job of equal arguments; see `QueueStorage.output_for`."""
    found = store.queues.get(queue)
    if found is None:
        return None
    matching = (
        row
        for row in found.places[JobState.COMPLETED].values()
        if row.asked.fingerprint == fingerprint and row.asked.kind == kind
    )
    newest = max(matching, key=lambda row: row.asked.id.int, default=None)
    return None if newest is None else newest.status()
