"""What some worker must do for all: make due jobs PENDING, take jobs back from the lost, remove old finished ones.

The workers agree on one of them by a lease in the storage. The others ask again when that lease would end, so a leader
that died is replaced within its term. Two at once would do no harm.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from jobq_core.storage import LostWorker, QueueStorage
from jobq_worker.outages import Outages
from jobq_worker.registration import Registration

TERM: Final = 10.0
"""Seconds that the lease on maintenance lasts, at most; it is renewed after half of it."""
PROMOTE: Final = 10.0
"""Seconds between looks for due jobs when none is known to become due and no bell rings."""
GAP: Final = 0.01
"""Seconds between two looks for due jobs, at least: jobs that failed together become due one by one, thousands a
second, and are made PENDING some at a time."""
PRUNE: Final = 10.0
"""Seconds between looks for finished jobs whose time is over."""


async def _outcome(work: Awaitable[None]) -> Exception | None:
    """Do some work and return what it raised."""
    try:
        await work
    except Exception as error:  # noqa: BLE001  (raised again by the caller)
        return error
    return None


class Maintenance:
    """Leads the maintenance when it is this worker's turn. on_lost: told of the workers that were found lost."""

    def __init__(
        self,
        storage: QueueStorage,
        registration: Registration,
        outages: Outages,
        *,
        rescue_interval: float,
        longest_term: float = TERM,
        on_lost: Callable[[Sequence[LostWorker]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._storage = storage
        self._registration = registration
        self._outages = outages
        self._rescue_interval = rescue_interval
        self._term = min(TERM, longest_term)
        self._on_lost = on_lost
        self._bell = asyncio.Event()
        self._lead_at = 0.0
        self._promote_at = 0.0
        self._rescue_at = 0.0
        self._prune_at = 0.0
        self._prune_anyway = False
        self._asked = False
        self.leads = False

    def ring(self) -> None:
        """Look for due jobs at once: something was put among those that wait."""
        self._promote_at = 0.0
        self._bell.set()

    def prune_soon(self) -> None:
        """Prune at once, leader or not: a job ended that is not to be kept at all."""
        self._prune_anyway = True
        self._bell.set()

    async def run(self) -> None:
        """Lead, or wait to lead, until cancelled."""
        while True:
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001  (logged by Outages; this loop never ends by itself)
                self.leads = False
                self._lead_at = 0.0
                await asyncio.sleep(self._outages.record_failure("maintenance", error))
                continue
            due = [self._lead_at]
            if self.leads:
                due += [self._promote_at, self._rescue_at, self._prune_at]
            await self._sleep(min(due) - self._loop.time())

    async def _work(self) -> None:
        """Do what is due."""
        now = self._loop.time
        self._bell.clear()
        if self._lead_at <= now():
            self._asked = True
            leadership = await self._storage.lead(self._registration.id, self._term)
            self._asked = False
            self._outages.record_success("maintenance")
            if leadership.leads and not self.leads:
                self._promote_at = self._rescue_at = self._prune_at = 0.0
            self.leads = leadership.leads
            # The others ask a little after the lease ends, and not all in the same moment.
            pause = self._term / 2 if leadership.leads else leadership.expires_in + random.uniform(0.05, 0.5)
            self._lead_at = now() + pause
        # Each is tried, whatever became of the one before: a row that one of them cannot bear must not stop the others.
        failures = [
            error
            for due, work in (
                (self._prune_anyway or (self.leads and self._prune_at <= now()), self._prune),
                (self.leads and self._promote_at <= now(), self._promote),
                (self.leads and self._rescue_at <= now(), self._rescue),
            )
            if due and (error := await _outcome(work())) is not None
        ]
        if failures:
            raise failures[0]

    async def _promote(self) -> None:
        self._promote_at = self._loop.time() + PROMOTE
        promotion = await self._storage.promote()
        if promotion.next_in is not None:
            self._promote_at = min(self._promote_at, self._loop.time() + max(promotion.next_in, GAP))

    async def _rescue(self) -> None:
        if self._registration.expire():
            # What this worker ran is handed back now. It would take that back from itself, at the price of an attempt.
            self._rescue_at = self._loop.time() + self._rescue_interval
            return
        lost = await self._storage.rescue()
        self._rescue_at = self._loop.time() + self._rescue_interval
        if lost:
            self._on_lost(lost)

    async def _prune(self) -> None:
        anyway, self._prune_anyway = self._prune_anyway, False
        try:
            removed = await self._storage.prune()
        except BaseException:
            self._prune_anyway = anyway
            raise
        # When there was a full load, there is more.
        self._prune_at = self._loop.time() + (PRUNE if removed < 10_000 else 0.05)

    async def _sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            return

    async def resign(self) -> None:
        """Give the lead up, if this worker has it, or was not answered when it asked for it. Raises StorageError."""
        if self.leads or self._asked:
            self.leads = self._asked = False
            await self._storage.resign(self._registration.id)
