"""Subscribers of the status poller: they wait for a job's end, follow its progress, or have its events emitted."""

from __future__ import annotations

import abc
import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from jobq_client.callbacks import Callbacks
from jobq_client.errors import not_found, own
from jobq_client.results import is_over
from jobq_core.errors import ClosedError
from jobq_core.records import Progress
from jobq_core.states import is_finished
from jobq_core.storage import JobStatus

logger = logging.getLogger("jobq.client")

ProgressCallback = Callable[[Progress], object | Awaitable[object]]

_calls: Final = Callbacks(logger)


class Subscriber(abc.ABC):
    """Receives the status of one job. `progress`: whether a change of the progress alone concerns it."""

    progress: bool = False

    @abc.abstractmethod
    def see(self, status: JobStatus) -> bool:
        """Receive the job's status. Returns True if the subscription is over."""

    @abc.abstractmethod
    def fail(self, error: Exception | None) -> None:
        """End without a status: the job does not exist (None), or reading it raised this error."""


class Waiter(Subscriber):
    """Waits until the job is over."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.last: JobStatus | None = None
        self.future: asyncio.Future[JobStatus] = asyncio.get_running_loop().create_future()

    def see(self, status: JobStatus) -> bool:
        """Keep the status; over when the job is."""
        self.last = status
        if is_over(status) and not self.future.done():
            self.future.set_result(status)
        return self.future.done()

    def fail(self, error: Exception | None) -> None:
        """Raise the error from the future."""
        if not self.future.done():
            self.future.set_exception(own(error) if error else not_found(self.job_id))


class Follower(Subscriber):
    """Keeps the latest progress for a reader, who may skip changes."""

    progress = True

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.news = asyncio.Event()
        self.latest = self.read = Progress()
        self.over = False
        self.error: Exception | None = None

    def see(self, status: JobStatus) -> bool:
        """Keep the progress; over when the job is finished."""
        self.latest = status.progress
        self.over = is_finished(status.state)
        if self.over or self.latest != self.read:
            self.news.set()
        return self.over

    def fail(self, error: Exception | None) -> None:
        """Keep the error for the reader."""
        self.error = own(error) if error else not_found(self.job_id)
        self.news.set()


class Caller(Subscriber):
    """Calls back at each change of the progress, in the context in which it was made."""

    progress = True

    def __init__(self, job_id: UUID, callback: ProgressCallback) -> None:
        self._job_id = job_id
        self._callback = callback
        self._context = contextvars.copy_context()
        self._last = Progress()

    def see(self, status: JobStatus) -> bool:
        """Call back if the progress changed; over when the job is finished."""
        if status.progress != self._last:
            self._last = status.progress
            self._context.run(_calls.call, "a progress callback", self._callback, status.progress)
        return is_finished(status.state)

    def fail(self, error: Exception | None) -> None:
        """Log the error, as no caller awaits it."""
        if not isinstance(error, ClosedError):
            logger.warning("stopped following job %s: %s", self._job_id, error or "the job does not exist")


class Watcher(Subscriber):
    """Keeps the poller reading a job, so that the client emits the job's events."""

    def __init__(self, job_id: UUID) -> None:
        self._job_id = job_id

    def see(self, status: JobStatus) -> bool:
        """Do nothing: the poller has emitted the event. Over when the job is finished."""
        return is_finished(status.state)

    def fail(self, error: Exception | None) -> None:
        """Log the error, as no caller awaits it."""
        if not isinstance(error, ClosedError):
            logger.warning("stopped watching job %s: %s", self._job_id, error or "the job does not exist")
