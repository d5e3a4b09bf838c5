"""The status poller: whoever waits for jobs, or follows them, shares one subscription and one query.

    doorbell ─► ear ─► which jobs to look at ─► storage.get_status ─► each job's subscribers

The poller runs while it has subscribers and costs nothing else. It looks at a job as soon as somebody asks for it,
whenever the doorbell rings, and every `poll` seconds even if it does not: polling is the truth, the doorbell only makes
it quick.
"""

from __future__ import annotations

import abc
import asyncio
import contextvars
import logging
import time
from typing import Final
from uuid import UUID

from jobq_client.backoff import OUTAGE, around, pause
from jobq_client.client_events import ClientEvents
from jobq_core.errors import ClosedError, StorageUnavailableError
from jobq_core.storage import FINISHED_TOPIC, PROGRESS_TOPIC, JobStatus, QueueStorage, Subscription

logger = logging.getLogger("jobq.client")

STEADY: Final = 10.0
"""Seconds for which a doorbell must have worked for its next failure to count as the first."""
MAX_GAP: Final = 0.02
"""Seconds between looks, at most, while the bell rings for jobs of others: 50 queries a second, not thousands."""


class Subscriber(abc.ABC):
    """Somebody who wants to know of one job. `progress`: whether progress alone is news."""

    progress: bool = False

    @abc.abstractmethod
    def see(self, status: JobStatus) -> bool:
        """Take in how the job stands; True if this was all that the subscriber waited for."""

    @abc.abstractmethod
    def fail(self, error: Exception | None) -> None:
        """Learn that nothing more will come: the job is gone (None), or the error why it cannot be looked at."""


class StatusPoller:
    """Tells subscribers how their jobs stand. Its callers are tasks of one event loop."""

    def __init__(self, storage: QueueStorage, events: ClientEvents, *, poll: float = 1.0) -> None:
        self._storage = storage
        self._events = events
        self._poll = poll
        self._subscribers: dict[UUID, dict[Subscriber, None]] = {}
        self._due: set[UUID] = set()
        self._all_due = False
        self._next_poll = 0.0
        self._wake = asyncio.Event()
        self._arrival = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        self.outage: StorageUnavailableError | None = None
        """Why the last look failed, while it is the last."""

    def subscribe(self, job_id: UUID, subscriber: Subscriber) -> None:
        """Tell the subscriber how the job stands, now and at every change, until it leaves or is done."""
        if self._closed:
            raise ClosedError("the client is closed")
        self._subscribers.setdefault(job_id, {})[subscriber] = None
        self._due.add(job_id)
        self._arrival.set()
        self._wake.set()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on(), context=contextvars.Context())

    def unsubscribe(self, job_id: UUID, subscriber: Subscriber) -> None:
        """Tell the subscriber no more; whoever leaves last closes the subscription. May be called twice."""
        subscribers = self._subscribers.get(job_id, {})
        if subscriber in subscribers:
            del subscribers[subscriber]
            if not subscribers:
                del self._subscribers[job_id]
                self._due.discard(job_id)
                self._events.forget_progress(job_id)
        if not self._subscribers:
            self._shut()

    async def settled(self) -> None:
        """Wait until a subscription that nobody needs any more has ended, for a second at most."""
        if self._ending:
            await asyncio.wait(self._ending, timeout=1.0)

    async def close(self) -> None:
        """End all waits with ClosedError, and the subscription."""
        self._closed = True
        self._fail_all(ClosedError("the client was closed while this job was waited for"))
        self._shut()
        if self._ending:
            await asyncio.wait(self._ending)

    def _shut(self) -> None:
        task, self._looking = self._looking, None
        # The task itself comes here when its news sends the last subscriber away; it then sees that it is dismissed.
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            if task is not asyncio.current_task():
                task.cancel()

    async def _look_on(self) -> None:
        """Keep a subscription while there are subscribers; without one, look from time to time."""
        me = asyncio.current_task()
        failures = 0
        try:
            while self._looking is me:
                began = time.monotonic()
                try:
                    async with self._storage.subscribe((FINISHED_TOPIC, PROGRESS_TOPIC)) as subscription:
                        # What happened before the ear was at the door was not heard.
                        self._all_due = True
                        await self._look_when_rung(subscription)
                except StorageUnavailableError as error:
                    failures = failures + 1 if time.monotonic() - began < STEADY else 1
                    if failures == 1:
                        logger.warning("the doorbell is out of order, polling meanwhile: %s", error)
                    if self._looking is me:
                        self._all_due = True
                        await self._look()
                        await asyncio.sleep(min(OUTAGE.delay(failures), around(self._poll)))
        except Exception as error:
            if self._looking is me:
                self._looking = None
                self._fail_all(error)
            else:
                logger.exception("a subscription that nobody needs any more did not end well")

    async def _look_when_rung(self, subscription: Subscription) -> None:
        me = asyncio.current_task()
        ear = asyncio.create_task(self._hear(subscription))
        ear.add_done_callback(lambda _: self._wake.set())
        self._wake.set()
        failures = vain = 0
        try:
            while self._looking is me:
                await self._wake.wait()
                if ear.done():
                    ear.result()
                looked, news = await self._look()
                if self.outage is not None:
                    failures += 1
                    await asyncio.sleep(OUTAGE.delay(failures))
                    self._wake.set()
                elif looked:
                    failures = 0
                    vain = 0 if news else vain + 1
                    if vain > 1 and self._looking is me:
                        # Rung again and again for the jobs of others: wait a little longer each time.
                        await pause(self._arrival, min(0.0005 * 2.0 ** min(vain, 10), MAX_GAP))
        finally:
            ear.cancel()
            await asyncio.wait({ear})
            if not ear.cancelled():
                ear.exception()  # was raised above, or came too late to matter

    async def _hear(self, subscription: Subscription) -> None:
        while True:
            rung = await subscription.wait(around(self._poll))
            if FINISHED_TOPIC in rung or not rung:
                self._all_due = True
            else:
                everybody = self._events.wants_progress()
                self._due.update(
                    job_id
                    for job_id, those in self._subscribers.items()
                    if everybody or any(one.progress for one in those)
                )
            self._wake.set()

    async def _look(self) -> tuple[bool, bool]:
        """Look at the jobs that are due; say whether there were any, and whether that was news to anybody."""
        self._wake.clear()
        self._arrival.clear()
        everything = self._all_due or time.monotonic() >= self._next_poll
        ids = list(self._subscribers) if everything else [job_id for job_id in self._due if job_id in self._subscribers]
        if not ids:
            return False, False
        self._all_due = False
        self._due.clear()
        # Who comes while the answer is on its way may know more than it says, of a retry for one.
        asked = [tuple(self._subscribers[job_id]) for job_id in ids]
        try:
            statuses = await self._storage.get_status(ids)
        except StorageUnavailableError as error:
            if self.outage is None:
                logger.warning("cannot look at %d jobs that are waited for, and try on: %s", len(ids), error)
            self.outage = error
            self._all_due = True
            return True, False
        self.outage = None
        if everything:
            self._next_poll = time.monotonic() + 1.5 * self._poll
        self._events.see(status for status in statuses if status is not None)
        news = [self._tell(*each) for each in zip(ids, asked, statuses, strict=True)]
        return True, any(news)

    def _tell(self, job_id: UUID, subscribers: tuple[Subscriber, ...], status: JobStatus | None) -> bool:
        news = False
        for subscriber in subscribers:
            if subscriber not in self._subscribers.get(job_id, ()):
                continue  # it left meanwhile
            if status is None:
                subscriber.fail(None)
            elif not subscriber.see(status):
                continue
            news = True
            self.unsubscribe(job_id, subscriber)
        return news

    def _fail_all(self, error: Exception) -> None:
        everybody, self._subscribers = self._subscribers, {}
        self._due.clear()
        for subscribers in everybody.values():
            for subscriber in subscribers:
                subscriber.fail(error)
