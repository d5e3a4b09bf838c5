"""The facet of operators: aborting, disabling, enabling, retrying and deleting jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from jobq_core.states import FINISHED, JobState, StopRequest
from jobq_core.storage import FINISHED_TOPIC, REQUEST_TOPIC, WAITING_TOPIC, Change, OperatorStorage, queue_topic
from jobq_storage_sqlite.columns import to_array, to_id
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.slices import PAUSE_SECONDS, SLICE, in_slices
from jobq_storage_sqlite.transaction import Transaction

Act = Callable[[Transaction, "Found"], tuple[JobState | None, bool]]
"""Changes a job and returns its state after that, and whether the request to a running job was changed."""


class Control(StorageOnFile, OperatorStorage):
    """Changes jobs through the writer."""

    async def abort(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change(ids, abort)

    async def abort_run(self, run_id: str, *, on_progress: Callable[[int], object] | None = None) -> list[Change]:
        last = await self._last()
        after: bytes | None = b""
        changes: list[Change] = []
        while after is not None:
            after, some = await self._write(partial(abort_some, run_id=run_id, after=after, last=last))
            changes += some
            if some and on_progress is not None:
                on_progress(len(changes))
            await asyncio.sleep(PAUSE_SECONDS if after else 0)
        return changes

    async def retry(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change(ids, retry)

    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change(ids, disable)

    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change(ids, enable)

    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        return await self._change(ids, delete)

    async def clear(self, queue: str, *, on_progress: Callable[[int], object] | None = None) -> int:
        last = await self._last()
        return await in_slices(self._write, partial(clear_some, queue=queue, last=last), None, on_progress)

    async def _last(self) -> int:
        """Return the last number given out: jobs that are added during a long operation are not part of it."""
        ((last,),) = await self._read("read_sequence")
        return int(last)

    async def _change(self, ids: Sequence[UUID], act: Act) -> list[Change]:
        return await self._write(partial(change, ids=ids, act=act)) if ids else []


class Found:
    """What the acts need to know of a job."""

    __slots__ = ("key", "n", "queue", "request", "run_at", "state")

    def __init__(self, row: Any) -> None:
        self.n, self.queue, state, self.request, self.run_at, self.key = row
        self.state = JobState(state)


def change(transaction: Transaction, ids: Sequence[UUID], act: Act) -> list[Change]:
    """Change each job that exists, one after the other."""
    changes: list[Change] = []
    for job_id in ids:
        row = transaction.one("find_job", job_id.bytes)
        if row is None:
            changes.append(Change(job_id, None, None))
        else:
            found = Found(row)
            after, asked = act(transaction, found)
            changes.append(Change(job_id, found.state, after, asked))
    return changes


def abort(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Abort a job, or ask its worker to."""
    if job.state is JobState.PROCESSING:
        return _request(transaction, job, StopRequest.ABORT)
    if job.state in FINISHED:
        return job.state, False
    transaction.run("abort", transaction.now, job.n)
    transaction.topics.add(FINISHED_TOPIC)
    return JobState.ABORTED, False


def disable(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Disable a job, or ask its worker to. A request to abort stands."""
    if job.state is JobState.PROCESSING:
        return _request(transaction, job, StopRequest(job.request or StopRequest.DISABLE))
    if job.state in FINISHED or job.state is JobState.DISABLED:
        return job.state, False
    transaction.run("disable", job.n)
    transaction.topics.add(FINISHED_TOPIC)
    return JobState.DISABLED, False


def enable(transaction: Transaction, job: Found) -> tuple[JobState, bool]:
    """Enable a disabled job, or withdraw a request to disable it."""
    if job.state is JobState.PROCESSING and job.request == StopRequest.DISABLE:
        return _request(transaction, job, None)
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
    """Put a failed or aborted job back."""
    if job.state not in (JobState.FAILED, JobState.ABORTED):
        return job.state, False
    if job.key is not None and transaction.one("is_key_held", job.queue, job.key) is not None:
        return job.state, False
    transaction.run("retry", transaction.numbers(1), job.n)
    transaction.topics.add(queue_topic(job.queue))
    return JobState.PENDING, False


def delete(transaction: Transaction, job: Found) -> tuple[None, bool]:
    """Delete a job."""
    remove(transaction, [job.n])
    transaction.topics.add(FINISHED_TOPIC)
    if job.state is JobState.PROCESSING:
        transaction.topics.add(REQUEST_TOPIC)
    return None, False


def abort_some(transaction: Transaction, run_id: str, after: bytes, last: int) -> tuple[bytes | None, list[Change]]:
    """Abort the unfinished jobs of a slice of a run; return the id to go on after (None: that was the last slice)."""
    rows = transaction.all("find_jobs_of_run", run_id=run_id, after=after, last=last, limit=SLICE)
    changes = change(transaction, [to_id(job_id) for job_id, finished in rows if not finished], abort)
    return rows[-1][0] if len(rows) == SLICE else None, changes


def clear_some(transaction: Transaction, queue: str, last: int, size: int) -> int:
    """Delete up to `size` jobs of a queue and return their number."""
    rows = transaction.all("find_queue", queue=queue, last=last, limit=size)
    if rows:
        remove(transaction, [n for n, _ in rows])
        transaction.topics |= (
            {FINISHED_TOPIC, REQUEST_TOPIC} if any(running for _, running in rows) else {FINISHED_TOPIC}
        )
    return len(rows)


def remove(transaction: Transaction, numbers: Sequence[int]) -> None:
    """Delete jobs, with their history."""
    for name in ("delete_attempts", "delete_lives", "delete_jobs"):
        transaction.run(name, numbers=to_array(numbers))


def _request(transaction: Transaction, job: Found, request: StopRequest | None) -> tuple[JobState, bool]:
    transaction.run("request", request, job.n)
    transaction.topics.add(REQUEST_TOPIC)
    return job.state, True
