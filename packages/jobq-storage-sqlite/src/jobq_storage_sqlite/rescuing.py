"""Rescuing the jobs of lost workers, a worker at a time."""

from __future__ import annotations

import logging
from functools import partial

from jobq_core.errors import StorageError
from jobq_core.records import worker_lost
from jobq_core.states import FINISHED, Ending, JobState, state_after
from jobq_core.storage import REQUEST_TOPIC, LostWorker, Rescue, RescuedJob
from jobq_core.timestamps import SECOND
from jobq_storage_sqlite.columns import to_id, to_request
from jobq_storage_sqlite.endings import EndingJob, end, put_in_line, topic_of
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.runs import GATED
from jobq_storage_sqlite.settling import insert_attempt
from jobq_storage_sqlite.transaction import Transaction

log = logging.getLogger("jobq.sqlite")


class Orphan(EndingJob, gc=False):
    """What find_orphans reads of a job, behind what every end needs."""

    lease: int
    worker: bytes
    waited: int
    started_at: int
    attempt: int
    request: str | None
    max_attempts: int
    ran: int


async def rescue(storage: StorageOnFile) -> Rescue:
    """Rescue the jobs of each lost worker in a transaction of its own. Raises the first error, unless some worked."""
    found: list[LostWorker] = []
    errors: list[StorageError] = []
    workers, next_in = await storage._write(find_lost)
    for worker in workers:
        try:
            lost = await storage._write(partial(rescue_worker, worker=worker))
        except StorageError as error:
            log.warning("could not rescue the jobs of worker %s: %s", to_id(worker), error)
            errors.append(error)
        else:
            if lost is not None:
                found.append(lost)
    if errors and not found:
        raise errors[0]
    return Rescue(found, 0.0 if errors else next_in)


def find_lost(transaction: Transaction) -> tuple[list[bytes], float | None]:
    """Return the lost workers, and in how many seconds the next one could expire."""
    lost = [worker for (worker,) in transaction.all("find_lost_workers", uptime=transaction.uptime)]
    (left,) = transaction.one("find_next_live_loss", transaction.uptime)
    return lost, None if left is None else left / SECOND


def rescue_worker(transaction: Transaction, worker: bytes) -> LostWorker | None:
    """Remove a lost worker and rescue its jobs; None if another call did it, or it is registered again."""
    row = transaction.one("delete_lost_worker", worker, transaction.uptime)
    if row is None and transaction.one("is_registered", worker) is not None:
        return None
    transaction.run("delete_requests_to", worker)
    name, silent_for = ("", 0.0) if row is None else (row[0], _silence(transaction, row[1], row[2]))
    jobs = [_take_back(transaction, name, Orphan(*found)) for found in transaction.all("find_orphans", worker)]
    if row is None and not jobs:
        return None
    return LostWorker(worker=to_id(worker), name=name, silent_for=silent_for, jobs=jobs)


def _silence(transaction: Transaction, beat_at: int, beat_uptime: int) -> float:
    """Return the seconds since a heartbeat."""
    silence = transaction.uptime - beat_uptime
    # For a heartbeat before the machine booted, only the time of day tells.
    return (silence if silence >= 0 else max(transaction.now - beat_at, 0)) / SECOND


def _take_back(transaction: Transaction, name: str, job: Orphan) -> RescuedJob:
    now, spent = transaction.now, bool(job.ran) and job.attempt >= job.max_attempts
    ending, gated = Ending.FAIL if spent else Ending.RETRY, bool(job.flags & GATED)
    state = state_after(ending, request=to_request(job.request), waits=False, gated=gated)
    error_lease = job.lease if job.ran else None
    transaction.runs.pop(job.lease, None)
    error = worker_lost(to_id(job.worker), name or "") if job.ran else None
    if error is not None:
        insert_attempt(transaction, job.n, job.lease, job.attempt, job.worker, job.started_at, error)
    if state in FINISHED:
        reason = "aborted" if state is JobState.ABORTED else "worker lost"
        transaction.run("end", state.value, reason, now, error_lease, job.n)
        end(transaction, job, state, (job.waited, now - job.started_at), error)
    elif state is JobState.DISABLED:
        transaction.run("disable_rescued", now, error_lease, job.n)
    else:
        put_in_line(transaction, [(job.n, job.queue, job.flags)])
    if not job.ran:
        transaction.run("give_back", job.n)
    transaction.topics |= {topic_of(state, job.queue), REQUEST_TOPIC}
    attempt = job.attempt if job.ran else job.attempt - 1
    return RescuedJob(id=to_id(job.id), kind=job.kind, queue=job.queue, attempt=attempt, state=state)
