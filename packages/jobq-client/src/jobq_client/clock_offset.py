"""The storage's clock as seen from here: ids carry its time, whatever this machine's clock says."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, NamedTuple

from jobq_core.errors import StorageError
from jobq_core.storage import QueueStorage

logger = logging.getLogger("jobq.client")

MEASURE_EVERY: Final = 600.0
"""Seconds after which the offset is taken again: a bad quartz drifts by 60 ms in that time."""
RETRY_AFTER: Final = 5.0
"""Seconds after which it is tried again if that failed."""
STEP: Final = 0.5
"""Seconds by which this machine's clock must have been set, or the machine have slept, to take it again at once."""


class Reading(NamedTuple):
    """How far the storage's clock is ahead of this machine's, and this machine's time for which that holds: seconds."""

    offset: float
    now: float


class ClockOffset:
    """How far the storage's clock is ahead of this machine's, taken at the start and now and then."""

    def __init__(self, storage: QueueStorage) -> None:
        self._storage = storage
        self._offset = 0.0
        self._due = 0.0
        self._skew = 0.0
        self._measuring: asyncio.Task[None] | None = None

    async def measure(self) -> None:
        """Ask the storage for the time; it stands for the middle of the question's round trip. Raises StorageError."""
        # This machine's clock is looked at once: if it is set while the storage is asked, the next reading finds out.
        skew = time.time() - time.monotonic()
        before = time.monotonic()
        theirs = (await self._storage.now()).timestamp()
        after = time.monotonic()
        error = (after - before) / 2
        offset = theirs - (skew + before + error)
        # An offset smaller than what measuring it may be wrong by is none.
        self._offset = offset if abs(offset) > error else 0.0
        self._skew = skew
        self._due = after + MEASURE_EVERY

    async def read(self) -> Reading:
        """Return the offset, and the time. Waits for the storage only if this machine's clock was set meanwhile."""
        monotonic, now = time.monotonic(), time.time()
        if monotonic >= self._due:
            self._due = monotonic + MEASURE_EVERY
            self._measuring = asyncio.create_task(self._measure_again())
        if abs(now - monotonic - self._skew) > STEP:
            await self._measure_again()
            now = self._skew + time.monotonic()
        return Reading(self._offset, now)

    async def close(self) -> None:
        """End a measurement under way."""
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.wait({self._measuring})

    async def _measure_again(self) -> None:
        try:
            await self.measure()
        except StorageError as error:
            # An id is as unique with the old offset, and the add that follows says what ails the storage.
            logger.warning("cannot take the storage's time, and go on with the one of before: %s", error)
            self._skew = time.time() - time.monotonic()
            self._due = time.monotonic() + RETRY_AFTER
