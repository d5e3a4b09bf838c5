"""`StorageClock`: the storage's clock, so that the jobs that a handler adds get ids of the storage's time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from jobq_core.ids import new_id
from jobq_core.storage import QueueStorage
from jobq_worker.loops import Loop
from jobq_worker.outages import Outages

MEASURE_SECONDS: Final = 600.0
"""Interval between two measurements: a bad quartz drifts by 60 ms in that time."""


class StorageClock:
    """Measures how far the storage's clock is ahead of the monotonic clock: at the start, and every MEASURE_SECONDS."""

    def __init__(
        self, storage: QueueStorage, outages: Outages, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._storage = storage
        self._outages = outages
        self._monotonic = monotonic
        self.ahead = 0.0
        """The storage's time, in seconds since 1970, minus that of the monotonic clock."""
        self._due = float("-inf")
        self.loop = Loop("clock", self._work, outages)

    async def measure(self) -> None:
        """Read the storage's clock, taken as the time in the middle of the round trip. Raises StorageError."""
        before = self._monotonic()
        theirs = (await self._storage.now()).timestamp()
        after = self._monotonic()
        self.ahead = theirs - (before + after) / 2
        self._due = after + MEASURE_SECONDS

    def new_id(self) -> UUID:
        """Return a new id of the storage's time. May be called from any thread."""
        return new_id(0.0, self.ahead + self._monotonic())

    async def _work(self, woken: bool) -> float:
        if self._monotonic() >= self._due:
            await self.measure()
            self._outages.record_success("clock")
        return max(self._due - self._monotonic(), 0.0)
