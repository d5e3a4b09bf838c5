"""Claiming jobs, and freeing those that wait for a worker that can take them."""

from __future__ import annotations

import heapq
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
        self._left = claim.limit
        self._bytes = claim.max_bytes
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
        left = self._left if line.limit is None else min(line.limit, self._left)
        for bucket in (queue.returned, *queue.lines.values()):
            left = self._take_from(bucket, left)

    def _take_from(self, bucket: Bucket, left: int) -> int:
        """Take up to `left` jobs of a bucket, in the order of arrival; return what is left of `left`."""
        store, worker, now, claimed = self._store, self._worker, self._now, self.claimed
        while bucket and left > 0 and not self.more:
            token, row = bucket.popitem(last=False)
            if self._bytes is not None:
                size = len(row.job.arguments)
                if claimed and size > self._bytes:
                    bucket[token] = row
                    bucket.move_to_end(token, last=False)
                    self.more = True
                    break
                self._bytes -= size
            row.token = 0
            if row.deadline is not None:
                store.deadlines.remove_one()
            claimed.append(claim_one(store, worker, row, now))
            left -= 1
            self._left -= 1
        return left


def claim_one(store: Store, worker: UUID, row: Row, now: int) -> ClaimedJob:
    """Make a job PROCESSING that was taken from its line."""
    lease = row.lease = next(store.leases)
    store.running[lease] = row
    row.waited = max(now - row.since, 0)
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
        job.queue,
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
