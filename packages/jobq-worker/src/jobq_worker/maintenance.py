"""The maintenance that one worker does for all: promote due jobs, fail late ones, rescue those of lost workers, add the
follow-ups of failed ones, prune, count, and go on with bulk operations that were left behind.

The workers agree on a leader by a lease in the storage. The others ask again when that lease would end, so that a dead
leader is replaced within its term. Two leaders at once would do no harm.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final
from uuid import UUID

import attrs

from jobq_core.events import EventSource, WorkerLost
from jobq_core.storage import LostWorker, QueueStorage
from jobq_worker.around.follow_ups import follow_failures
from jobq_worker.left_operations import LeftOperations
from jobq_worker.liveness.registration import Registration
from jobq_worker.loops import Loop
from jobq_worker.notifications import Notifications
from jobq_worker.outages import Outages

logger = logging.getLogger("jobq.worker")

TERM_SECONDS: Final = 10.0
"""Maximum length of the lease on maintenance; it is renewed after half of it."""
LOOK_SECONDS: Final = 10.0
"""Interval between two promotions, expirations or prunings when nothing is known to be due and nothing is notified."""
DEAF_SECONDS: Final = 1.0
"""The same interval, except for prunings, for a leader that receives no notifications."""
RESCUE_SECONDS: Final = 5.0
"""Maximum interval between two rescues."""
PROMOTE_GAP_SECONDS: Final = 0.01
"""Minimum interval between two promotions: jobs that failed together become due one by one, thousands a second, and are
promoted some at a time."""
GAP_SECONDS: Final = 0.25
"""Minimum interval between two rescues or expirations; a notification brings the next one forward to it."""
FOLLOW_GAP_SECONDS: Final = 0.01
"""Minimum interval between two calls that add what follows failures."""
FOLLOW_BATCH: Final = 100
"""The number of ends that one call follows at most; their jobs may take 256 KiB each. After a full batch there are
more."""
SAMPLE_SECONDS: Final = 3600.0
"""Maximum interval between two samples of the depths; the storage says when the next one is due."""
SLICE_GAP_SECONDS: Final = 0.05
"""Interval between two slices of a bulk operation that was left behind."""
PRUNE_BATCH: Final = 10_000
"""The number of jobs that one call prunes at most; after a full batch there are more."""
PRUNE_GAP_SECONDS: Final = 0.05
"""Interval between two prunings while there are more jobs to prune."""


@attrs.define(eq=False)
class Duty:
    """One part of the maintenance.

    act: does it, and returns the seconds until it is due again, or None for `interval`, the longest time.
    gap: the minimum interval. deaf: the longest time for a leader that receives no notifications.
    forced: to be done at once, by this worker, whether it leads or not.
    """

    name: str
    act: Callable[[], Awaitable[float | None]]
    interval: float
    gap: float
    deaf: float
    due_at: float = 0.0
    done_at: float = float("-inf")
    not_before: float = float("-inf")
    forced: bool = False

    @property
    def part(self) -> str:
        """Its name in logs of outages."""
        return f"maintenance ({self.name})"

    def due(self, *, leads: bool, hears: bool) -> float:
        """Return when it is due; never for a worker that does not lead, unless it is forced."""
        if not (self.forced or leads):
            return float("inf")
        due_at = 0.0 if self.forced else self.due_at
        if not hears:
            due_at = min(due_at, self.done_at + self.deaf)
        return max(due_at, self.not_before)

    def bring_forward(self) -> None:
        """Make it due as soon as its gap permits."""
        self.due_at = min(self.due_at, self.done_at + self.gap)


class Maintenance:
    """Leads the maintenance when it is this worker's turn, and does its duties then.

    A duty that fails is retried after a backoff of its own, and does not stop the others.
    """

    def __init__(
        self,
        storage: QueueStorage,
        registration: Registration,
        outages: Outages,
        events: EventSource,
        notifications: Notifications,
        *,
        make_id: Callable[[], UUID],
        rescue_interval: float,
        longest_term: float = TERM_SECONDS,
    ) -> None:
        self._storage = storage
        self._registration = registration
        self._outages = outages
        self._events = events
        self._notifications = notifications
        self._make_id = make_id
        self._term = min(TERM_SECONDS, longest_term)
        self._lead_at = 0.0
        self._asked = False
        self.leads = False
        self.lost_workers = 0
        """The number of lost workers whose jobs it rescued."""
        rescue_interval = min(rescue_interval, RESCUE_SECONDS)
        self.promotion = Duty("promotion", self._promote, LOOK_SECONDS, PROMOTE_GAP_SECONDS, DEAF_SECONDS)
        self.expiry = Duty("expiry", self._expire, LOOK_SECONDS, GAP_SECONDS, DEAF_SECONDS)
        self.rescue = Duty("rescue", self._rescue, rescue_interval, GAP_SECONDS, DEAF_SECONDS)
        self.following = Duty("follow-ups", self._follow, LOOK_SECONDS, FOLLOW_GAP_SECONDS, DEAF_SECONDS)
        self.pruning = Duty("pruning", self._prune, LOOK_SECONDS, PRUNE_GAP_SECONDS, LOOK_SECONDS)
        self.sampling = Duty("samples", storage.sample_depths, SAMPLE_SECONDS, GAP_SECONDS, SAMPLE_SECONDS)
        self._operations = LeftOperations(storage)
        self.operations = Duty("operations", self._operations.work, LOOK_SECONDS, SLICE_GAP_SECONDS, LOOK_SECONDS)
        # The first duties make jobs fail, and the next one adds what follows.
        self._duties = (
            self.promotion,
            self.expiry,
            self.rescue,
            self.following,
            self.pruning,
            self.sampling,
            self.operations,
        )
        self.loop = Loop("maintenance", self._work, outages)

    def look_soon(self) -> None:
        """Look for what is due, if this worker leads: a job was added that waits for a time or has a deadline, or a
        worker registered."""
        for duty in (self.promotion, self.expiry, self.rescue):
            duty.bring_forward()
        self.loop.wake()

    def follow_soon(self) -> None:
        """Add what follows a failure, if this worker leads: a job with a follow-up failed."""
        self.following.bring_forward()
        self.loop.wake()

    def prune_soon(self) -> None:
        """Prune at once, whether this worker leads or not: a job ended that is not to be kept."""
        self.pruning.forced = True
        self.loop.wake()

    async def _work(self, woken: bool) -> float:
        now = asyncio.get_running_loop().time
        if self._lead_at <= now():
            await self._ask_to_lead(now)
        for duty in self._duties:
            if duty.due(leads=self.leads, hears=self._notifications.hears) <= now():
                await self._do(duty, now)
        hears = self._notifications.hears
        due = min([self._lead_at, *(duty.due(leads=self.leads, hears=hears) for duty in self._duties)])
        # A leader looks at its own clock every second: notifications may stop arriving meanwhile.
        return max(min(due - now(), DEAF_SECONDS if self.leads else due), 0.0)

    async def _ask_to_lead(self, now: Callable[[], float]) -> None:
        """Take or renew the lease on maintenance, and set when to ask again."""
        self._asked = True
        try:
            leadership = await self._storage.lead(self._registration.id, self._term)
        except Exception as error:  # noqa: BLE001  (recorded as an outage)
            self.leads = False
            self._lead_at = now() + self._outages.record_failure("maintenance", error)
            return
        self._asked = False
        self._outages.record_success("maintenance")
        if leadership.leads and not self.leads:
            for duty in self._duties:
                duty.due_at = 0.0
        self.leads = leadership.leads
        if not self.leads:
            self._operations.forget()
            for duty in self._duties:
                if not duty.forced:  # another worker does it from now on
                    self._outages.forget(duty.part)
        # The others ask a little after the lease ends, and not all in the same moment.
        pause = self._term / 2 if leadership.leads else leadership.expires_in + random.uniform(0.05, 0.5)
        self._lead_at = now() + pause

    async def _do(self, duty: Duty, now: Callable[[], float]) -> None:
        """Do a duty, and set when it is due again: after a backoff if it failed."""
        forced, duty.forced = duty.forced, False
        # Set before the call: a notification during it brings the next one forward.
        duty.done_at = now()
        duty.due_at = duty.done_at + duty.interval
        try:
            pause = await duty.act()
        except Exception as error:  # noqa: BLE001  (recorded as an outage)
            duty.forced = duty.forced or forced
            duty.not_before = now() + self._outages.record_failure(duty.part, error)
            duty.due_at = min(duty.due_at, duty.not_before)
            return
        self._outages.record_success(duty.part)
        duty.done_at = now()
        if pause is not None:
            duty.due_at = min(duty.due_at, duty.done_at + max(pause, duty.gap))

    async def _promote(self) -> float | None:
        return (await self._storage.promote()).next_in

    async def _expire(self) -> float | None:
        return (await self._storage.expire()).next_in

    async def _rescue(self) -> float | None:
        # A worker whose own leases have run out hands its jobs back first: rescuing them would cost them an attempt.
        if self._registration.expire():
            return None
        found = await self._storage.rescue()
        self._report_lost(found.workers)
        return found.next_in

    async def _follow(self) -> float | None:
        follow = partial(follow_failures, make_id=self._make_id)
        ended = await self._storage.resolve(FOLLOW_BATCH, follow)
        return None if len(ended) < FOLLOW_BATCH else FOLLOW_GAP_SECONDS

    async def _prune(self) -> float | None:
        removed = await self._storage.prune()
        return None if removed < PRUNE_BATCH else PRUNE_GAP_SECONDS

    def _report_lost(self, lost: Sequence[LostWorker]) -> None:
        self.lost_workers += len(lost)
        for worker in lost:
            logger.warning(
                "worker %s (%s) missed its heartbeat for %.0f s; %d jobs rescued",
                worker.name,
                worker.worker,
                worker.silent_for,
                len(worker.jobs),
            )
            self._events.emit(
                WorkerLost(
                    worker=worker.worker, name=worker.name, silent_for=worker.silent_for, jobs=tuple(worker.jobs)
                )
            )

    async def resign(self) -> None:
        """Give the lead up, if this worker has it or may have it unanswered. Raises StorageError."""
        if self.leads or self._asked:
            self.leads = self._asked = False
            await self._storage.resign(self._registration.id)
