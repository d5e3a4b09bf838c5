"""The status poller: all subscribers of a client share one storage subscription and one query.

    notification ─► jobs that are due ─► storage.get_status ─► each job's subscribers

It runs while it has subscribers. It reads a job's status when the job gets a subscriber, whether or not the storage
can be subscribed to; at every notification; and every `poll` seconds without one: polling makes it correct,
notifications only make it quick.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from jobq_client.backoff import OUTAGE, pause, spread
from jobq_client.client_events import ClientEvents
from jobq_client.notification_feed import NotificationFeed
from jobq_client.subscribers import Subscriber
from jobq_client.subscriptions import LIKELY, Subscriptions
from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_core.storage import JobStatus, QueueStorage

logger = logging.getLogger("jobq.client")

MAX_READ: Final = 1000
"""Maximum number of jobs in one query."""
MAX_READ_BYTES: Final = 16 * 1024 * 1024
"""Size of the results in one query, in bytes, above which the next query reads fewer jobs."""
JOBS_PER_SECOND: Final = 4000
"""How many jobs are polled in a second, at most. More waiting jobs are polled less often than every `poll` seconds."""
MAX_GAP_SECONDS: Final = 0.02
"""Maximum delay between reads while notifications concern other clients' jobs: 50 queries a second, not thousands."""
MAX_SHARE: Final = 0.1
"""Maximum share of the time that reads may take while notifications concern other clients' jobs."""


def gap_after(unchanged: int, read_seconds: float, poll: float) -> float:
    """Return the seconds until the next read, while notifications concern other clients' jobs: longer each time.

    unchanged: the number of reads without news. read_seconds: what the last one took. That may be the time in which a
    handler blocked the event loop, so it delays the next read by no more than `poll` seconds.
    """
    gap = min(0.0005 * 2.0 ** min(unchanged, 10), MAX_GAP_SECONDS)
    return max(gap, min(read_seconds / MAX_SHARE, poll))


class StatusPoller:
    """Reads the status of the subscribed jobs and gives it to their subscribers, in one event loop."""

    def __init__(self, storage: QueueStorage, events: ClientEvents, *, poll: float = 1.0) -> None:
        self._storage = storage
        self._events = events
        self._poll = poll
        self._subscriptions = Subscriptions()
        self._next_poll = 0.0
        self._max_read = MAX_READ
        self._wake = asyncio.Event()
        self._arrival = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        self.outage: StorageUnavailableError | None = None
        """The error of the last read, if that failed."""

    def subscribe(self, job_id: UUID, subscriber: Subscriber) -> None:
        """Give the subscriber the job's status, now and at every change, until it unsubscribes or is over."""
        if self._closed:
            raise ClosedError("the client is closed")
        self._subscriptions.add(job_id, subscriber)
        self._arrival.set()
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="jobq status poller", context=contextvars.Context())
            self._task.add_done_callback(self._ended)

    def unsubscribe(self, job_id: UUID, subscriber: Subscriber) -> None:
        """End a subscription; the last one ends the storage subscription. May be called twice."""
        if self._subscriptions.remove(job_id, subscriber):
            self._events.forget_progress(job_id)
        if not self._subscriptions:
            self._end_task()

    async def settled(self) -> None:
        """Wait until a storage subscription that is no longer needed has ended, for a second at most."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=1.0)

    async def close(self) -> None:
        """End all subscriptions with ClosedError, and the storage subscription."""
        self._closed = True
        self._subscriptions.fail_all(ClosedError("the client was closed during a wait for this job"))
        self._end_task()
        if self._ending:
            await asyncio.wait(self._ending)

    def _end_task(self) -> None:
        task, self._task = self._task, None
        # The task itself comes here when a status ends the last subscription; it then returns by itself.
        if task is not None:
            self._ending.add(task)
            if task is not asyncio.current_task():
                task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """End the subscriptions of a task that ended unasked, whatever ended it. The next subscriber starts another."""
        self._ending.discard(task)
        error = ClosedError("the task that polls was cancelled") if task.cancelled() else task.exception()
        if task is not self._task:
            if error is not None and not task.cancelled():
                logger.error("a subscription that was no longer needed ended with an error", exc_info=error)
            return
        self._task = None
        if not isinstance(error, StorageError | ClosedError):
            logger.error("the status poller failed; its waiters get an error", exc_info=error)
        if not isinstance(error, Exception):
            cause, error = error, StorageError(f"reading the status of jobs ended unexpectedly: {error!r}")
            error.__cause__ = cause
        self._subscriptions.fail_all(error)

    async def _run(self) -> None:
        """Read what is due, while a second task listens. An error of either ends both."""
        feed = NotificationFeed(
            self._storage, finished=self._on_finished, progressed=self._on_progress, poll=self._poll
        )
        listening = asyncio.create_task(feed.run(), name="jobq notification feed")
        listening.add_done_callback(self._on_feed_ended)
        try:
            # A subscription that starts at once precedes the first read, so that one read is enough.
            await asyncio.sleep(0)
            await self._read_while_needed(listening)
        finally:
            listening.cancel()
            await asyncio.wait({listening})
        if not listening.cancelled():
            listening.result()

    def _on_feed_ended(self, listening: asyncio.Task[None]) -> None:
        if not listening.cancelled():
            listening.exception()  # raised by the poller's task, unless that is cancelled
        self._wake.set()

    def _on_finished(self) -> None:
        self._subscriptions.changed = True
        self._wake.set()

    def _on_progress(self) -> None:
        self._subscriptions.progress_changed(concerns_all=self._events.wants_progress())
        self._wake.set()

    async def _read_while_needed(self, listening: asyncio.Task[None]) -> None:
        me = asyncio.current_task()
        failures = unchanged = 0
        while self._task is me:
            if not self._subscriptions.due and not self._subscriptions.changed:
                await pause(self._wake, max(0.0, self._next_poll - time.monotonic()))
            if listening.done():
                return
            began = time.monotonic()
            read, changed = await self._read_due()
            if self.outage is not None:
                failures += 1
                await asyncio.sleep(OUTAGE.delay(failures))
            elif read:
                failures = 0
                unchanged = 0 if changed else unchanged + 1
                if unchanged > 1 and self._task is me and not self._subscriptions.due:
                    await pause(self._arrival, gap_after(unchanged, time.monotonic() - began, self._poll))

    async def _read_due(self) -> tuple[bool, bool]:
        """Read the status of jobs that are due. Returns whether there were any, and whether any was news."""
        self._wake.clear()
        self._arrival.clear()
        now = time.monotonic()
        if now >= self._next_poll:
            self._next_poll = now + spread(self._poll)
            self._subscriptions.take_turns(max(1, math.ceil(JOBS_PER_SECOND * self._poll)))
        due = self._subscriptions.take_due(self._max_read)
        if not due:
            return False, False
        job_ids = [job_id for job_id, _ in due]
        try:
            statuses = await self._storage.get_status(job_ids)
        except StorageUnavailableError as error:
            if self.outage is None:
                logger.warning("could not read the status of %d jobs; retrying: %s", len(due), error)
            self.outage = error
            self._max_read = max(1, self._max_read // 2)  # it may have taken too long
            self._subscriptions.make_due(job_ids)
            return True, False
        self.outage = None
        self._adapt(statuses)
        self._events.see(status for status in statuses if status is not None)
        changed, many = False, len(self._subscriptions) > LIKELY
        for (job_id, subscribers), status in zip(due, statuses, strict=True):
            for subscriber in self._subscriptions.deliver(job_id, subscribers, status):
                self.unsubscribe(job_id, subscriber)
                changed = True
        if changed and many:
            self._subscriptions.changed = True  # there may be more, among those that were less likely
        return True, changed

    def _adapt(self, statuses: Sequence[JobStatus | None]) -> None:
        """Read fewer jobs at a time while their results are large."""
        size = sum(len(status.result_json) for status in statuses if status is not None and status.result_json)
        if size > MAX_READ_BYTES:
            self._max_read = max(1, len(statuses) * MAX_READ_BYTES // (2 * size))
        else:
            self._max_read = min(MAX_READ, 2 * self._max_read)
