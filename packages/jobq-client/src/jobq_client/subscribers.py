"""Who the status poller tells: those who wait for the end, who follow progress, or who want it announced."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from jobq_client.errors import not_found, own
from jobq_client.results import is_over
from jobq_client.status_poller import Subscriber
from jobq_core.errors import ClosedError
from jobq_core.records import Progress
from jobq_core.states import is_finished
from jobq_core.storage import JobStatus

logger = logging.getLogger("jobq.client")

ProgressCallback = Callable[[Progress], object | Awaitable[object]]

_tasks: Final[set[asyncio.Future[object]]] = set()


class Waiter(Subscriber):
    """Waits for the job to be over."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.last: JobStatus | None = None
        self.future: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()

    def see(self, status: JobStatus) -> bool:
        """Keep the status; done when the job is over."""
        self.last = status
        if is_over(status) and not self.future.done():
            self.future.set_result(status)
        return self.future.done()

    def fail(self, error: Exception | None) -> None:
        """Pass it on to the waiter."""
        if not self.future.done():
            self.future.set_exception(own(error) if error else not_found(self.job_id))


class Follower(Subscriber):
    """Keeps the latest progress for a reader; what the reader was too slow for is left out."""

    progress = True

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.news = asyncio.Event()
        self.latest = self.read = Progress()
        self.over = False
        self.error: Exception | None = None

    def see(self, status: JobStatus) -> bool:
        """Take in the progress; done when the job is finished."""
        self.latest = status.progress
        self.over = is_finished(status.state)
        if self.over or self.latest != self.read:
            self.news.set()
        return self.over

    def fail(self, error: Exception | None) -> None:
        """Pass it on to the reader."""
        self.error = own(error) if error else not_found(self.job_id)
        self.news.set()


class Caller(Subscriber):
    """Calls back at every change of progress, of message or of details, in the context of whoever asked for it."""

    progress = True

    def __init__(self, job_id: UUID, callback: ProgressCallback) -> None:
        self._job_id = job_id
        self._callback = callback
        self._context = contextvars.copy_context()
        self._last = Progress()

    def see(self, status: JobStatus) -> bool:
        """Call back if anything changed; done when the job is finished."""
        if status.progress != self._last:
            self._last = status.progress
            self._context.run(call, self._callback, status.progress)
        return is_finished(status.state)

    def fail(self, error: Exception | None) -> None:
        """Log it: there is nobody to raise it to."""
        if not isinstance(error, ClosedError):
            logger.warning(
                "progress of job %s is followed no longer: %s", self._job_id, error or "there is no such job"
            )


class Watcher(Subscriber):
    """Keeps a job subscribed, so that the client announces what happens to it."""

    def __init__(self, job_id: UUID) -> None:
        self._job_id = job_id

    def see(self, status: JobStatus) -> bool:
        """Do nothing, the poller has announced it; done when the job is finished."""
        return is_finished(status.state)

    def fail(self, error: Exception | None) -> None:
        """Log it: there is nobody to raise it to."""
        if not isinstance(error, ClosedError):
            logger.warning("job %s is watched no longer: %s", self._job_id, error or "there is no such job")


def call(callback: ProgressCallback, progress: Progress) -> None:
    """Call a sync or async callback; what it raises is logged and hurts no one else."""
    try:
        outcome = callback(progress)
    except Exception:
        logger.exception("a progress callback failed")
        return
    if inspect.isawaitable(outcome):
        task = asyncio.ensure_future(outcome)
        _tasks.add(task)
        task.add_done_callback(_finish)


def _finish(task: asyncio.Future[object]) -> None:
    _tasks.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a progress callback failed", exc_info=error)
