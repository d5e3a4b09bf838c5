"""Settling runs and claiming jobs: the path that every job takes."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from jobq_core.memory.rows import Row
from jobq_core.memory.store import Store
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.states import FINISHED, Ending, JobState, state_after
from jobq_core.storage import Claim, ClaimedJob, SettleAndClaimResult, Settlement, WorkerStorage
from jobq_core.timestamps import SECOND, to_moment


class SettleAndClaim(MemoryTransactions, WorkerStorage):
    """The main operation of the facet of workers."""

    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        with self._transaction() as store:
            settled = _settle(store, settlements)
            alive = store.is_alive(worker)
            claimed = _claim(store, worker, claim) if alive and claim is not None else []
            return SettleAndClaimResult(settled, claimed, alive, picked=len(claimed))


def _settle(store: Store, settlements: Sequence[Settlement]) -> list[JobState | None]:
    now = store.clock.now()
    times = [to_moment(settlement.when, now) for settlement in settlements]
    return [_settle_one(store, settlement, when, now) for settlement, when in zip(settlements, times, strict=True)]


def _settle_one(store: Store, settlement: Settlement, when: int | None, now: int) -> JobState | None:
    row = store.held(settlement.id, settlement.lease)
    if row is None:
        before = store.jobs.get(settlement.id)
        return before.settled if before is not None and before.lease == settlement.lease else None
    ending = settlement.ending
    state = state_after(ending, request=row.request, waits=when is not None and when > now)
    error = settlement.error
    if ending is Ending.RELEASE:
        row.attempt -= 1
    elif ending is not Ending.COMPLETE and error is not None:
        row.note_failure(error, now)
        if state is not JobState.SCHEDULED and state is not JobState.PENDING:
            row.error = error
    if state is JobState.COMPLETED:
        row.result = settlement.result
    if state in FINISHED:
        row.finished_at = now
    if state is JobState.SCHEDULED or state is JobState.BLOCKED:
        row.run_at = when
    row.reason = None if state is JobState.COMPLETED else settlement.reason or _REASONS.get(state)
    row.settled = state
    store.move(row, state)
    return state


_REASONS = {
    JobState.SCHEDULED: "backoff",
    JobState.BLOCKED: "released",
    JobState.DISABLED: "disabled",
    JobState.ABORTED: "aborted",
}


def _claim(store: Store, worker: UUID, claim: Claim) -> list[ClaimedJob]:
    now = store.clock.now()
    claimed: list[ClaimedJob] = []
    left = claim.limit
    for name in claim.queues:
        queue = store.queues.get(name)
        if queue is None:
            continue
        for line in queue.lines.values():
            while line and left > 0:
                claimed.append(_claim_one(store, worker, line.popitem(last=False)[1], now))
                left -= 1
    return claimed


def _claim_one(store: Store, worker: UUID, row: Row, now: int) -> ClaimedJob:
    lease = row.lease = next(store.leases)
    store.running[lease] = row
    row.state = JobState.PROCESSING
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
    )
