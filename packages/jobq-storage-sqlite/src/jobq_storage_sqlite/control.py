"""The facet of operators: aborting, disabling, enabling, retrying and deleting jobs, and the options of queues."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from jobq_core.states import FINISHED, JobState, StopRequest
from jobq_core.storage import (
    FINISHED_TOPIC,
    REQUEST_TOPIC,
    WAITING_TOPIC,
    Change,
    OperatorStorage,
    QueueOptions,
    QueueOwner,
)
from jobq_storage_sqlite.caller_connection import run_within
from jobq_storage_sqlite.columns import to_id
from jobq_storage_sqlite.endings import EndingJob, end, put_in_line
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.queue_options import set_queue
from jobq_storage_sqlite.removing import remove
from jobq_storage_sqlite.runs import GATED
from jobq_storage_sqlite.slices import PAUSE_SECONDS, SLICE, change_in_slices, in_slices
from jobq_storage_sqlite.transaction import Transaction

Act = Callable[[Transaction, "Found"], tuple[JobState | None, bool]]
"""Changes a job and returns its state after that, and whether the request to a running job was changed."""


class Control(StorageOnFile, OperatorStorage):
    """Changes jobs through the writer."""

    async def abort(self, ids: Sequence[UUID], *, connection: Any = None) -> list[Change]:
        return await self._change(ids, abort, connection)

    async def abort_run(self, run_id: str, *, on_progress: Callable[[int], object] | None = None) -> list[Change]:
        last = await self._last()
        after: bytes | None = b""
        changes: list[Change] = []
        while after is not None:
            after, some = await self._write(partial(abort_some, run_id=run_id, after=after, last=last))
            changes += some
            if some and on_progress is not None:
                on_progress(len(changes))
            if after is not None:
                await asyncio.sleep(PAUSE_SECONDS)
        return changes

    async def retry(self, ids: Sequence[UUID], *, connection: Any = None) -> list[Change]:
        return await self._change(ids, retry, connection)

    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change(ids, disable)

    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change(ids, enable)

    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change(ids, delete)

    async def clear(self, queue: str, *, on_progress: Callable[[int], object] | None = None) -> int:
        last = await self._last()
        return await in_slices(self._write, partial(clear_some, queue=queue, last=last), None, on_progress)

    async def set_queue(self, queue: str, options: QueueOptions, owner: QueueOwner = "operator") -> None:
        await self._write(partial(set_queue, queue=queue, options=options, owner=owner))

    async def _last(self) -> int:
        """Return the last number given out: jobs that are added during a long operation are not part of it."""
        ((last, _),) = await self._read("read_sequence")
        return int(last)

    async def _change(self, ids: Sequence[UUID], act: Act, connection: Any = None) -> list[Change]:
        if not ids:
            return []
        if connection is None:
            return await change_in_slices(self._write, partial(change, act=act), ids)
        self._file()
        return await run_within(connection, self.path, self._moment, partial(change, ids=ids, act=act))


class Found(EndingJob, gc=False):
    """What the acts need to know of a job. key_queue: the queue of its unique key."""

    key_queue: str
    state: JobState
    request: str | None
    run_at: int | None
    reason: str | None
    extra: str | None
    priority: int


def change(transaction: Transaction, ids: Sequence[UUID], act: Act) -> list[Change]:
    """Change each job that exists, one after the other."""
    changes: list[Change] = []
    for job_id in ids:
        job = find_job(transaction, job_id)
        if job is None:
            changes.append(Change(job_id, None, None))
        else:
            after, asked = act(transaction, job)
            changes.append(Change(job_id, job.state, after, asked))
    return changes


def find_job(transaction: Transaction, job_id: UUID) -> Found | None:
    """Return what the acts need to know of a job; None if it does not exist."""
    row = transaction.one("find_job", job_id.bytes)
    if row is None:
        return None
    job = Found(*row)
    job.state = JobState(job.state)
    return job


def abort(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Abort a job, or ask its worker to."""
    if job.state is JobState.PROCESSING:
        return _request(transaction, job, StopRequest.ABORT)
    if job.state in FINISHED:
        return job.state, False
    transaction.run("abort", transaction.now, job.n)
    end(transaction, job, JobState.ABORTED)
    return JobState.ABORTED, False


def disable(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Disable a job, or ask its worker to. A request to abort stands."""
    if job.state is JobState.PROCESSING:
        if job.request == StopRequest.ABORT:
            return job.state, False
        return _request(transaction, job, StopRequest.DISABLE)
    if job.state in FINISHED or job.state is JobState.DISABLED:
        return job.state, False
    transaction.run("disable", transaction.now, job.n)
    transaction.topics.add(FINISHED_TOPIC)
    return JobState.DISABLED, False


def enable(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Enable a disabled job, or withdraw a request to disable it."""
    if job.state is JobState.PROCESSING and job.request == StopRequest.DISABLE:
        return _request(transaction, job, None)
    if job.state is not JobState.DISABLED:
        return job.state, False
    if job.run_at is not None and job.run_at > transaction.now:
        transaction.run("enable_later", transaction.now, job.n)
        transaction.topics.add(WAITING_TOPIC)
        return JobState.SCHEDULED, False
    transaction.run("forget_error", job.n)
    return to_end_of_line(transaction, job), False


def retry(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Put a failed or aborted job back."""
    if job.state not in (JobState.FAILED, JobState.ABORTED):
        return job.state, False
    if job.unique_key is not None:
        if transaction.one("is_key_held", job.key_queue, job.unique_key, transaction.now) is not None:
            return job.state, False
        transaction.run("hold_key", job.key_queue, job.unique_key, job.n)
    transaction.run("forget_runs", job.n)
    transaction.tally.left.append((job.queue, job.state.value, job.kind, 1))
    return to_end_of_line(transaction, job), False


def delete(transaction: Transaction, job: Found) -> tuple[None, bool]:
    """Delete a job."""
    remove(transaction, [job.n])
    return None, False


def abort_some(transaction: Transaction, run_id: str, after: bytes, last: int) -> tuple[bytes | None, list[Change]]:
    """Abort the unfinished jobs of a slice of a run; return the id to go on after (None: that was the last slice)."""
    rows = transaction.all("find_jobs_of_run", run_id=run_id, after=after, last=last, limit=SLICE)
    changes = change(transaction, [to_id(job_id) for job_id, finished in rows if not finished], abort)
    return rows[-1][0] if len(rows) == SLICE else None, changes


def clear_some(transaction: Transaction, queue: str, last: int, size: int) -> int:
    """Delete up to `size` jobs of a queue and return their number."""
    numbers = [n for (n,) in transaction.all("find_queue", queue=queue, last=last, limit=size)]
    remove(transaction, numbers)
    return len(numbers)


def to_end_of_line(transaction: Transaction, job: Found) -> JobState:
    """Make a job PENDING, or BLOCKED if it is gated; return which."""
    put_in_line(transaction, [(job.n, job.queue, job.flags)])
    return JobState.BLOCKED if job.flags & GATED else JobState.PENDING


def _request(transaction: Transaction, job: Found, request: StopRequest | None) -> tuple[Any, bool]:
    transaction.run("request", request, job.n)
    transaction.topics.add(REQUEST_TOPIC)
    return job.state, True
