"""The status poller: all subscribers of a client share one storage subscription and one query.

    notification ─► jobs that are due ─► storage.get_status ─► each job's subscribers

It runs while it has subscribers. It reads a job's status when the job gets a subscriber, at every notification, and
every `poll` seconds without one: polling makes it correct, notifications only make it quick.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from typing import Final
from uuid import UUID

from jobq_client.backoff import OUTAGE, pause, spread
from jobq_client.client_events import ClientEvents
from jobq_client.subscribers import Subscriber
from jobq_client.subscriptions import Subscriptions
from jobq_core.errors import ClosedError, StorageUnavailableError
from jobq_core.storage import FINISHED_TOPIC, PROGRESS_TOPIC, QueueStorage, Subscription

logger = logging.getLogger("jobq.client")

STEADY_SECONDS: Final = 10.0
"""Seconds that a subscription must last for its next failure to count as the first."""
MAX_GAP_SECONDS: Final = 0.02
"""Maximum delay between reads while notifications concern other clients' jobs: 50 queries a second, not thousands."""


class StatusPoller:
    """Reads the status of the subscribed jobs and gives it to their subscribers, in one event loop."""

    def __init__(self, storage: QueueStorage, events: ClientEvents, *, poll: float = 1.0) -> None:
        self._storage = storage
        self._events = events
        self._poll = poll
        self._subscriptions = Subscriptions()
        self._next_poll = 0.0
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
            self._task = asyncio.create_task(self._run(), context=contextvars.Context())

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
        self._subscriptions.fail_all(ClosedError("the client was closed while this job was waited for"))
        self._end_task()
        if self._ending:
            await asyncio.wait(self._ending)

    def _end_task(self) -> None:
        task, self._task = self._task, None
        # The task itself comes here when a status ends the last subscription; it then returns by itself.
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            if task is not asyncio.current_task():
                task.cancel()

    async def _run(self) -> None:
        """Hold a storage subscription while there are subscribers; poll while there is none to be had."""
        me = asyncio.current_task()
        failures = 0
        try:
            while self._task is me:
                began = time.monotonic()
                try:
                    async with self._storage.subscribe((FINISHED_TOPIC, PROGRESS_TOPIC)) as subscription:
                        self._subscriptions.all_due = True  # changes before the subscription were not notified
                        await self._read_when_notified(subscription)
                except StorageUnavailableError as error:
                    failures = failures + 1 if time.monotonic() - began < STEADY_SECONDS else 1
                    if failures == 1:
                        logger.warning("notifications are unavailable, polling instead: %s", error)
                    if self._task is me:
                        self._subscriptions.all_due = True
                        await self._read_due()
                        await asyncio.sleep(min(OUTAGE.delay(failures), spread(self._poll)))
        except Exception as error:
            if self._task is me:
                self._task = None
                self._subscriptions.fail_all(error)
            else:
                logger.exception("a subscription that was no longer needed ended with an error")

    async def _read_when_notified(self, subscription: Subscription) -> None:
        me = asyncio.current_task()
        notifications = asyncio.create_task(self._take_notifications(subscription))
        notifications.add_done_callback(lambda _: self._wake.set())
        self._wake.set()
        failures = unchanged = 0
        try:
            while self._task is me:
                await self._wake.wait()
                if notifications.done():
                    notifications.result()
                read, changed = await self._read_due()
                if self.outage is not None:
                    failures += 1
                    await asyncio.sleep(OUTAGE.delay(failures))
                    self._wake.set()
                elif read:
                    failures = 0
                    unchanged = 0 if changed else unchanged + 1
                    if unchanged > 1 and self._task is me:
                        # Notifications keep concerning other clients' jobs: wait longer each time.
                        await pause(self._arrival, min(0.0005 * 2.0 ** min(unchanged, 10), MAX_GAP_SECONDS))
        finally:
            notifications.cancel()
            await asyncio.wait({notifications})
            if not notifications.cancelled():
                notifications.exception()  # raised above, or too late to matter

    async def _take_notifications(self, subscription: Subscription) -> None:
        while True:
            topics = await subscription.wait(spread(self._poll))
            if FINISHED_TOPIC in topics or not topics:
                self._subscriptions.all_due = True
            else:
                self._subscriptions.progress_changed(concerns_all=self._events.wants_progress())
            self._wake.set()

    async def _read_due(self) -> tuple[bool, bool]:
        """Read the status of the jobs that are due. Returns whether there were any, and whether any was news."""
        self._wake.clear()
        self._arrival.clear()
        everything = self._subscriptions.all_due or time.monotonic() >= self._next_poll
        due = self._subscriptions.take_due(everything)
        if not due:
            return False, False
        try:
            statuses = await self._storage.get_status([job_id for job_id, _ in due])
        except StorageUnavailableError as error:
            if self.outage is None:
                logger.warning("could not read the status of %d jobs; retrying: %s", len(due), error)
            self.outage = error
            self._subscriptions.all_due = True
            return True, False
        self.outage = None
        if everything:
            self._next_poll = time.monotonic() + 1.5 * self._poll
        self._events.see(status for status in statuses if status is not None)
        changed = False
        for (job_id, subscribers), status in zip(due, statuses, strict=True):
            for subscriber in self._subscriptions.deliver(job_id, subscribers, status):
                self.unsubscribe(job_id, subscriber)
                changed = True
        return True, changed
