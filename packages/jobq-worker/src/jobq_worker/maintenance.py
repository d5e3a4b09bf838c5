"""The maintenance that one worker does for all: promote due jobs, rescue the jobs of lost workers, prune old jobs.

The workers agree on a leader by a lease in the storage. The others ask again when that lease would end, so that a dead
leader is replaced within its term. Two leaders at once would do no harm.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs

from jobq_core.events import EventSource, WorkerLost
from jobq_core.storage import LostWorker, QueueStorage
from jobq_worker.loops import Loop
from jobq_worker.outages import Outages
from jobq_worker.registration import Registration

logger = logging.getLogger("jobq.worker")

TERM_SECONDS: Final = 10.0
"""Maximum length of the lease on maintenance; it is renewed after half of it."""
PROMOTE_SECONDS: Final = 10.0
"""Interval between two promotions when no job is known to become due and no notification comes."""
PROMOTE_GAP_SECONDS: Final = 0.01
"""Minimum interval between two promotions: jobs that failed together become due one by one, thousands a second, and are
promoted some at a time."""
PRUNE_SECONDS: Final = 10.0
"""Interval between two prunings."""
PRUNE_BATCH: Final = 10_000
"""The number of jobs that one call prunes at most; after a full batch there are more."""


@attrs.define(eq=False)
class Duty:
    """One part of the maintenance. act: does it, and returns the seconds until it is due again, `interval` at most.

    forced: to be done at once, by this worker, whether it leads or not.
    """

    act: Callable[[], Awaitable[float]]
    interval: float
    due_at: float = 0.0
    forced: bool = False


class Maintenance:
    """Leads the maintenance when it is this worker's turn, and does its duties then."""

    def __init__(
        self,
        storage: QueueStorage,
        registration: Registration,
        outages: Outages,
        events: EventSource,
        *,
        rescue_interval: float,
        longest_term: float = TERM_SECONDS,
    ) -> None:
        self._storage = storage
        self._registration = registration
        self._outages = outages
        self._events = events
        self._term = min(TERM_SECONDS, longest_term)
        self._lead_at = 0.0
        self._asked = False
        self.leads = False
        self.pruning = Duty(self._prune, PRUNE_SECONDS)
        self.promotion = Duty(self._promote, PROMOTE_SECONDS)
        self.rescue = Duty(self._rescue, rescue_interval)
        self.loop = Loop("maintenance", self._work, outages)

    @property
    def _duties(self) -> tuple[Duty, ...]:
        return (self.pruning, self.promotion, self.rescue)

    def promote_soon(self) -> None:
        """Promote due jobs at once, if this worker leads: a job was scheduled or blocked."""
        self.promotion.due_at = 0.0
        self.loop.wake()

    def prune_soon(self) -> None:
        """Prune at once, whether this worker leads or not: a job ended that is not to be kept."""
        self.pruning.forced = True
        self.loop.wake()

    async def _work(self, woken: bool) -> float:
        now = asyncio.get_running_loop().time
        try:
            if self._lead_at <= now():
                self._lead_at = now() + await self._ask_to_lead()
            # Each duty is tried, whatever became of the one before: a row that one of them fails on must not stop the
            # others.
            failures = [error for duty in self._duties if (error := await self._try(duty, now)) is not None]
            if failures:
                raise failures[0]
        except Exception:
            self.leads = False
            self._lead_at = 0.0
            raise
        due = [self._lead_at, *(duty.due_at for duty in self._duties if self.leads)]
        return min(due) - now()

    async def _ask_to_lead(self) -> float:
        """Take or renew the lease on maintenance, and return the seconds after which to ask again."""
        self._asked = True
        leadership = await self._storage.lead(self._registration.id, self._term)
        self._asked = False
        self._outages.record_success("maintenance")
        if leadership.leads and not self.leads:
            for duty in self._duties:
                duty.due_at = 0.0
        self.leads = leadership.leads
        # The others ask a little after the lease ends, and not all in the same moment.
        return self._term / 2 if leadership.leads else leadership.expires_in + random.uniform(0.05, 0.5)

    async def _try(self, duty: Duty, now: Callable[[], float]) -> Exception | None:
        """Do a duty if it is due, and return what it raised."""
        if not (duty.forced or (self.leads and duty.due_at <= now())):
            return None
        forced, duty.forced = duty.forced, False
        duty.due_at = now() + duty.interval
        try:
            pause = await duty.act()
        except BaseException as error:
            duty.forced = forced
            if not isinstance(error, Exception):
                raise
            return error
        duty.due_at = min(duty.due_at, now() + pause)
        return None

    async def _promote(self) -> float:
        promotion = await self._storage.promote()
        return PROMOTE_SECONDS if promotion.next_in is None else max(promotion.next_in, PROMOTE_GAP_SECONDS)

    async def _rescue(self) -> float:
        # A worker whose own leases have run out hands its jobs back first: rescuing them would cost them an attempt.
        if not self._registration.expire():
            self._report_lost((await self._storage.rescue()).workers)
        return self.rescue.interval

    async def _prune(self) -> float:
        removed = await self._storage.prune()
        return PRUNE_SECONDS if removed < PRUNE_BATCH else 0.05

    def _report_lost(self, lost: Sequence[LostWorker]) -> None:
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
