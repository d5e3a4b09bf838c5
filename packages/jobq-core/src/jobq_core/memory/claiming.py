"""Claiming jobs, and freeing those that wait for a worker that can take them."""

from __future__ import annotations

import heapq
import sys
from uuid import UUID

from jobq_core.memory.rows import Bucket, Row
from jobq_core.memory.store import Store
from jobq_core.states import JobState
from jobq_core.storage import Claim, ClaimedJob, Line
from jobq_core.timestamps import SECOND


class Picking:
    """The jobs of one claim, taken while its limits allow.

    more: whether the limit of bytes ended the claim.
    """

    def __init__(self, store: Store, worker: UUID, claim: Claim) -> None:
        self._store = store
        self._worker = worker
        self._now = store.clock.now()
        self._limit = claim.limit
        self._bytes = sys.maxsize if claim.max_bytes is None else claim.max_bytes
        self.claimed: list[ClaimedJob] = []
        self.paused: list[str] = []
        self.more = False
        for line in claim.lines:
            self._take(line)

    def _take(self, line: Line) -> None:
        queue = self._store.queues.get(line.queue)
        if queue is None:
            return
        if queue.paused_at is not None:
            if line.queue not in self.paused:
                self.paused.append(line.queue)
            return
        end = self._limit if line.limit is None else min(len(self.claimed) + line.limit, self._limit)
        for bucket in (queue.returned, *queue.lines.values()):
            if not self.more:
                self._take_from(bucket, end)

    def _take_from(self, bucket: Bucket, end: int) -> None:
        """Take jobs of a bucket, in the order of arrival, until `end` jobs are claimed."""
        store, worker, now, claimed, room = self._store, self._worker, self._now, self.claimed, self._bytes
        for _ in range(len(claimed), min(end, len(claimed) + len(bucket))):
            token, row = bucket.popitem(last=False)
            room -= len(row.job.arguments)
            if room < 0 and claimed:
                bucket[token] = row
                bucket.move_to_end(token, last=False)
                self.more = True
                break
            row.token = 0
            if row.deadline is not None:
                store.deadlines.remove_one()
            claimed.append(claim_one(store, worker, row, now))
        self._bytes = room


def claim_one(store: Store, worker: UUID, row: Row, now: int) -> ClaimedJob:
    """Make a job PROCESSING that was taken from its line."""
    lease = row.lease = next(store.leases)
    store.running[lease] = row
    row.waited = now - row.since
    row.state = JobState.PROCESSING
    row.since = now
    row.bucket = None
    row.attempt += 1
    row.worker = worker
    row.start_marked = False
    row.started_at = now
    row.settled = None
    row.progress = None
    row.reason = None
    return claimed_job(row, lease, now)


def claimed_job(row: Row, lease: int, now: int) -> ClaimedJob:
    """Return what a worker needs to run a job."""
    job = row.job
    return ClaimedJob(
        job.id,
        lease,
        row.queue.name,
        job.kind,
        job.arguments,
        row.attempt,
        job.max_attempts,
        job.priority,
        job.timeout,
        None if row.deadline is None else (row.deadline - now) / SECOND,
        job.backoff,
        job.run_id,
        job.tags,
        job.meta,
    )


def free_suspended(store: Store, claim: Claim) -> int:
    """Free the jobs that wait for a worker that can take them and that this claim's kinds can; return their number."""
    suspended = [store.queues[name].suspended for name in dict.fromkeys(claim.queues) if name in store.queues]
    fitting = (
        row
        for kinds in suspended
        for kind, declaration in claim.kinds
        for row in kinds.get(kind, {}).values()
        if declaration not in row.refused
    )
    rows = heapq.nsmallest(claim.limit, fitting, key=lambda row: row.job.id.int)
    now = store.clock.now()
    for row in rows:
        store.free(row, now, returned=True)
    return len(rows)
