"""Adding, settling and claiming: the path that every job takes."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from jobq_core.memory.rows import Row
from jobq_core.memory.store import Store
from jobq_core.states import FINISHED, Ending, JobState, state_after
from jobq_core.storage import Added, Claim, ClaimedJob, NewJob, Settlement
from jobq_core.timestamps import SECOND, to_moment


def add(store: Store, jobs: Sequence[NewJob]) -> list[Added]:
    """Store jobs; see `QueueStorage.add`."""
    now = store.now()
    # All times are read before the first job is stored: one that cannot be read stores none.
    times = [(to_moment(job.run_at, now), to_moment(job.deadline, now)) for job in jobs]
    return [_add_one(store, job, run_at, deadline, now) for job, (run_at, deadline) in zip(jobs, times, strict=True)]


def _add_one(store: Store, job: NewJob, run_at: int | None, deadline: int | None, now: int) -> Added:
    if job.id in store.jobs:
        return Added(job.id, False)
    if job.unique_key is not None:
        holder = store.keys.setdefault((job.queue, job.unique_key), job.id)
        if holder != job.id:
            return Added(holder, False)
    row = Row(job, store.queue(job.queue), now, run_at, deadline)
    if run_at is not None and run_at > now:
        row.reason = "delayed"
        store.enter(row, JobState.SCHEDULED)
    else:
        store.enter(row, JobState.PENDING)
    store.jobs[job.id] = row
    return Added(job.id, True)


def settle(store: Store, settlements: Sequence[Settlement]) -> list[JobState | None]:
    """Settle finished runs; see `QueueStorage.settle_and_claim`."""
    now = store.now()
    times = [to_moment(settlement.when, now) for settlement in settlements]
    return [_settle_one(store, settlement, when, now) for settlement, when in zip(settlements, times, strict=True)]


def _settle_one(store: Store, settlement: Settlement, when: int | None, now: int) -> JobState | None:
    row = store.running.get(settlement.lease)
    if row is None or row.asked.id != settlement.id:
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
    store.leave(row)
    store.enter(row, state)
    return state


_REASONS = {
    JobState.SCHEDULED: "backoff",
    JobState.BLOCKED: "released",
    JobState.DISABLED: "disabled",
    JobState.ABORTED: "aborted",
}


def claim(store: Store, worker: UUID, wish: Claim) -> list[ClaimedJob]:
    """Claim the heads of the lines; see `QueueStorage.settle_and_claim`."""
    now = store.now()
    claimed: list[ClaimedJob] = []
    left = wish.limit
    for name in wish.queues:
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
    row.place = None
    row.attempt += 1
    row.worker = worker
    row.begun = False
    row.started_at = now
    row.settled = None
    row.progress = None
    row.reason = None
    return claimed_job(row, lease, now)


def mark_started(store: Store, worker: UUID, job_id: UUID, lease: int) -> bool:
    """Note that a run begins; see `QueueStorage.mark_started`."""
    row = store.running.get(lease)
    if row is None or row.asked.id != job_id or row.worker != worker:
        return False
    row.begun = True
    return True


def claimed_job(row: Row, lease: int, now: int) -> ClaimedJob:
    """Return what a worker needs of a job that it runs."""
    asked = row.asked
    return ClaimedJob(
        asked.id,
        lease,
        asked.queue,
        asked.kind,
        asked.arguments,
        row.attempt,
        asked.max_attempts,
        asked.priority,
        asked.timeout,
        None if row.deadline is None else (row.deadline - now) / SECOND,
        asked.backoff,
        asked.run_id,
        asked.tags,
    )
