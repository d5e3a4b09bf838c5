"""Waiting for jobs and following their progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar, overload
from uuid import UUID

from jobq_client.base import ClientBase
from jobq_client.base_handle import BaseJobHandle, JobKey, id_of
from jobq_client.errors import not_found
from jobq_client.results import is_over, result_of
from jobq_client.session import Session
from jobq_client.subscribers import Caller, Follower, ProgressCallback, Subscriber, Waiter, Watcher
from jobq_core.checks import Seconds, check_seconds
from jobq_core.errors import ConfigurationError, WaitTimeoutError
from jobq_core.records import Progress
from jobq_core.reprs import short_repr
from jobq_core.storage import JobStatus

R = TypeVar("R")


class Waiting(ClientBase):
    """The part of `JobQueueClient` that waits for jobs and follows them."""

    @overload
    async def wait_for(self, job: BaseJobHandle[R], *, timeout: Seconds | None = None) -> R: ...
    @overload
    async def wait_for(self, job: UUID | str, *, timeout: Seconds | None = None) -> Any: ...
    async def wait_for(self, job: JobKey, *, timeout: Seconds | None = None) -> Any:
        """Wait until a job has ended, in any process, and return its result.

        With a handle the result has the job's declared type; with an id it is plain JSON values. timeout: seconds,
        or a timedelta (default: no limit; 0: return or raise immediately).

        Raises the exception that the job failed with, if its type is loaded here and belongs to jobs: a type in
        `@job(errors=…)`, a subclass of JobError, or a builtin exception; any other raises JobError with `type_name`. A
        note on the exception says where it was raised. Raises AbortSignalJobError for an aborted job;
        JobDisabledError for a disabled one; JobNotFoundError if the job does not exist or is deleted;
        WaitTimeoutError after the timeout; ClosedError if the client stops.

        A job that stays PENDING in a queue that no worker serves is logged as a warning, once per queue, and named by
        the WaitTimeoutError.
        """
        job_id = id_of(job)
        session = self._running()
        if timeout is not None:
            timeout = check_seconds(timeout, "timeout")
        if timeout == 0:
            status = await self._status(job_id)
            if not is_over(status):
                raise await _not_over(job_id, 0, status, session)
        else:
            status = await _until_over(job_id, timeout, session)
        return result_of(status, job.definition if isinstance(job, BaseJobHandle) else None)

    async def progress_of(self, job: JobKey) -> Progress:
        """Return the progress of a job. Raises JobNotFoundError if it does not exist."""
        return (await self._status(id_of(job))).progress

    async def _status(self, job_id: UUID) -> JobStatus:
        (status,) = await self._running().storage.get_status([job_id])
        if status is None:
            raise not_found(job_id)
        return status

    def on_progress(self, job: JobKey, callback: ProgressCallback) -> Callable[[], None]:
        """Call `callback` (sync or async) with a job's progress, now if there is any and at each change until its end.

        A change of the message or the details alone counts. Changes within milliseconds are merged into the last one.
        Returns a function that ends the calls. An exception of the callback is logged.
        """
        if not callable(callback):
            raise ConfigurationError(f"on_progress needs a function of the progress, not {short_repr(callback)}")
        return self._subscribe(id_of(job), lambda job_id: Caller(job_id, callback))

    async def follow(self, job: JobKey) -> AsyncGenerator[Progress, None]:
        """Iterate over a job's progress until the job is finished, as `on_progress` reports it.

        A slow reader gets the latest. Raises JobNotFoundError if the job does not exist or is deleted; ClosedError if
        the client stops.
        """
        job_id = id_of(job)
        poller = self._running().poller
        follower = Follower(job_id)
        poller.subscribe(job_id, follower)
        try:
            while True:
                await follower.news.wait()
                follower.news.clear()
                if follower.latest != follower.read:
                    follower.read = follower.latest
                    yield follower.latest
                if follower.error is not None:
                    raise follower.error
                if follower.over and follower.latest == follower.read:
                    return
        finally:
            poller.unsubscribe(job_id, follower)

    def watch(self, job: JobKey) -> Callable[[], None]:
        """Emit this client's events for a job until the job is finished. Returns a function that ends them.

        client.on(JobFailed, alert)
        client.watch(handle)
        """
        return self._subscribe(id_of(job), Watcher)

    def _subscribe(self, job_id: UUID, make: Callable[[UUID], Subscriber]) -> Callable[[], None]:
        poller = self._running().poller
        subscriber = make(job_id)
        poller.subscribe(job_id, subscriber)
        return lambda: poller.unsubscribe(job_id, subscriber)


async def _until_over(job_id: UUID, timeout: float | None, session: Session) -> JobStatus:
    waiter = Waiter(job_id)
    session.poller.subscribe(job_id, waiter)
    session.served_queues.watch(waiter)
    try:
        # asyncio.wait, not wait_for: a job that ends just as the time is up has ended.
        await asyncio.wait({waiter.future}, timeout=timeout)
    finally:
        session.served_queues.forget(waiter)
        session.poller.unsubscribe(job_id, waiter)
        if not waiter.future.cancel():
            waiter.future.exception()  # retrieved, even if this task is cancelled just now
    if not waiter.future.cancelled():
        return waiter.future.result()
    await session.poller.settled()
    raise await _not_over(job_id, timeout, waiter.last, session)


async def _not_over(job_id: UUID, timeout: float | None, last: JobStatus | None, session: Session) -> WaitTimeoutError:
    state = "its state is not known yet" if last is None else f"it is {last.state}"
    outage = session.poller.outage
    problem = "" if outage else await session.served_queues.problem(last)
    error = WaitTimeoutError(
        f"job {job_id} has not ended after {timeout:g} seconds: {state}" + (f", and {problem}" if problem else "")
    )
    if outage is not None:
        error.add_note(f"the storage is unavailable: {outage}")
    return error
