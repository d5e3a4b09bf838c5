"""The offset of the storage's clock: ids carry the storage's time, whatever this machine's clock says."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final, NamedTuple

from jobq_core.errors import StorageError
from jobq_core.storage import QueueStorage

logger = logging.getLogger("jobq.client")

MEASURE_EVERY: Final = 600.0
"""Seconds after which the offset is measured again: a bad quartz drifts by 60 ms in that time."""
RETRY_AFTER: Final = 5.0
"""Seconds after which a failed measurement is repeated."""
STEP: Final = 0.5
"""Change of this machine's clock, in seconds, by being set or by sleep, after which it is measured again at once."""


class Reading(NamedTuple):
    """Seconds by which the storage's clock is ahead of this machine's, and this machine's time at that moment."""

    offset: float
    now: float


class ClockOffset:
    """How far the storage's clock is ahead of this machine's, measured at the start and every MEASURE_EVERY seconds."""

    def __init__(self, storage: QueueStorage) -> None:
        self._storage = storage
        self._offset = 0.0
        self._due = 0.0
        self._skew = 0.0
        self._measuring: asyncio.Task[None] | None = None

    async def measure(self) -> None:
        """Read the storage's clock, taken as the time in the middle of the round trip. Raises StorageError."""
        # This machine's clock is read once: if it is set during the round trip, the next reading notices.
        skew = time.time() - time.monotonic()
        before = time.monotonic()
        theirs = (await self._storage.now()).timestamp()
        after = time.monotonic()
        error = (after - before) / 2
        offset = theirs - (skew + before + error)
        # An offset within the measurement's own error counts as 0.
        self._offset = offset if abs(offset) > error else 0.0
        self._skew = skew
        self._due = after + MEASURE_EVERY

    async def read(self) -> Reading:
        """Return the offset and the time. Waits for the storage only if this machine's clock was set meanwhile."""
        monotonic, now = time.monotonic(), time.time()
        if monotonic >= self._due:
            self._due = monotonic + MEASURE_EVERY
            self._measuring = asyncio.create_task(self._measure_again(), name="jobq clock offset")
            self._measuring.add_done_callback(_log_failure)
        if abs(now - monotonic - self._skew) > STEP:
            await self._measure_again()
            now = self._skew + time.monotonic()
        return Reading(self._offset, now)

    def peek(self) -> Reading | None:
        """Return what `read` would, from any thread; None if the offset must be measured first."""
        monotonic, now = time.monotonic(), time.time()
        if monotonic >= self._due or abs(now - monotonic - self._skew) > STEP:
            return None
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
            # Ids stay unique with the previous offset, and the add that follows reports the storage's error.
            logger.warning("could not read the storage clock; keeping the previous offset: %s", error)
            self._skew = time.time() - time.monotonic()
            self._due = time.monotonic() + RETRY_AFTER


def _log_failure(measuring: asyncio.Task[None]) -> None:
    if not measuring.cancelled() and (error := measuring.exception()) is not None:
        logger.error("measuring the storage clock failed; keeping the previous offset", exc_info=error)
