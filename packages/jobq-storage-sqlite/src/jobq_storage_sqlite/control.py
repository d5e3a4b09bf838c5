"""What people do to jobs: abort, disable, enable, retry and delete them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from jobq_core.states import FINISHED, JobState, StopRequest
from jobq_core.storage import FINISHED_TOPIC, REQUEST_TOPIC, WAITING_TOPIC, Change, queue_topic
from jobq_storage_sqlite.columns import STATES, to_array, to_id
from jobq_storage_sqlite.transaction import Transaction

Act = Callable[[Transaction, "Found"], tuple[JobState | None, bool]]
"""Does something to a job and returns its state after that, and whether what a running one is asked was changed."""


class Found:
    """What the acts look at of a job."""

    __slots__ = ("key", "n", "queue", "request", "run_at", "state")

    def __init__(self, row: Any) -> None:
        self.n, self.queue, state, self.request, self.run_at, self.key = row
        self.state = STATES[state]


def change(transaction: Transaction, ids: Sequence[UUID], act: Act) -> list[Change]:
    """Do something to each job that is there, one after the other."""
    changes: list[Change] = []
    for job_id in ids:
        row = transaction.one("found", job_id.bytes)
        if row is None:
            changes.append(Change(job_id, None, None))
        else:
            found = Found(row)
            after, asked = act(transaction, found)
            changes.append(Change(job_id, found.state, after, asked))
    return changes


def abort(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Abort a job; see `QueueStorage.abort`."""
    if job.state is JobState.PROCESSING:
        return _ask(transaction, job, StopRequest.ABORT)
    if job.state in FINISHED:
        return job.state, False
    transaction.run("abort", transaction.now, job.n)
    transaction.topics.add(FINISHED_TOPIC)
    return JobState.ABORTED, False


def disable(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Put a job aside; see `QueueStorage.disable`. An abort that was asked for stands."""
    if job.state is JobState.PROCESSING:
        return _ask(transaction, job, StopRequest(job.request or StopRequest.DISABLE))
    if job.state in FINISHED or job.state is JobState.DISABLED:
        return job.state, False
    transaction.run("disable", job.n)
    transaction.topics.add(FINISHED_TOPIC)
    return JobState.DISABLED, False


def enable(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Let a job run again that was put aside; see `QueueStorage.enable`."""
    if job.state is JobState.PROCESSING and job.request == StopRequest.DISABLE:
        return _ask(transaction, job, None)
    if job.state is not JobState.DISABLED:
        return job.state, False
    if job.run_at is not None and job.run_at > transaction.now:
        transaction.run("enable_later", job.n)
        transaction.topics.add(WAITING_TOPIC)
        return JobState.SCHEDULED, False
    transaction.run("enable", transaction.numbers(1), job.n)
    transaction.topics.add(queue_topic(job.queue))
    return JobState.PENDING, False


def retry(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Put a job back that failed or was aborted; see `QueueStorage.retry`."""
    if job.state not in (JobState.FAILED, JobState.ABORTED):
        return job.state, False
    if job.key is not None and transaction.one("holder", job.queue, job.key) is not None:
        return job.state, False
    transaction.run("retry", transaction.numbers(1), job.n)
    transaction.topics.add(queue_topic(job.queue))
    return JobState.PENDING, False


def delete(transaction: Transaction, job: Found) -> tuple[None, bool]:
    """Remove a job; see `QueueStorage.delete`."""
    remove(transaction, [job.n])
    transaction.topics.add(FINISHED_TOPIC)
    if job.state is JobState.PROCESSING:
        transaction.topics.add(REQUEST_TOPIC)
    return None, False


def abort_run(transaction: Transaction, run_id: str) -> list[Change]:
    """Abort the unfinished jobs of a run, oldest first."""
    return change(transaction, [to_id(job_id) for (job_id,) in transaction.all("abort_run", run_id)], abort)


def clear(transaction: Transaction, queue: str) -> int:
    """Remove all jobs of a queue."""
    rows = transaction.all("clear", queue=queue)
    if rows:
        remove(transaction, [n for n, _ in rows])
        transaction.topics |= (
            {FINISHED_TOPIC, REQUEST_TOPIC} if any(running for _, running in rows) else {FINISHED_TOPIC}
        )
    return len(rows)


def remove(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Remove jobs, with their history."""
    some = to_array(numbers)
    for name in ("remove_attempts", "remove_lives", "remove_jobs"):
        transaction.run(name, some)


def _ask(transaction: Transaction, job: Found, request: StopRequest | None) -> tuple[JobState, bool]:
    transaction.run("ask", request, job.n)
    transaction.topics.add(REQUEST_TOPIC)
    return job.state, True
