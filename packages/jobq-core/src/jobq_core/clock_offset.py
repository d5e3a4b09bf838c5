"""The offset of the storage's clock: ids carry the storage's time, whatever this machine's clock says."""

from __future__ import annotations

import time
from typing import Final, NamedTuple
from uuid import UUID

from jobq_core.ids import new_id
from jobq_core.machine_clock import machine_clock
from jobq_core.storage import QueueStorage

MEASURE_SECONDS: Final = 600.0
"""Interval between two measurements: a bad quartz drifts by 60 ms in that time."""
STEP_SECONDS: Final = 0.5
"""Change of this machine's clock, by being set, after which the offset is corrected and measured again."""


class Reading(NamedTuple):
    """Seconds by which the storage's clock is ahead of this machine's, and this machine's time at that moment."""

    offset: float
    now: float


class Measured(NamedTuple):
    """A measurement, for all processes of this machine.

    offset: seconds by which the storage's clock was ahead of this machine's. skew: this machine's time minus that of
    `machine_clock`, which shows when it is set.
    """

    offset: float
    skew: float

    def read(self) -> Reading:
        """Return the offset, corrected if this machine's clock was set meanwhile, and the time."""
        now = time.time()
        return Reading(self.offset_at(now, machine_clock()), now)

    def offset_at(self, now: float, uptime: float) -> float:
        """Return the offset, corrected if this machine's clock was set meanwhile. uptime: the time of
        `machine_clock`."""
        step = now - uptime - self.skew
        return self.offset if abs(step) < STEP_SECONDS else self.offset - step


class ClockOffset:
    """How far the storage's clock is ahead of this machine's. To be measured at the start, and whenever it is due.

    Any thread may read it.
    """

    def __init__(self, storage: QueueStorage) -> None:
        self._storage = storage
        self.measured = Measured(0.0, time.time() - machine_clock())
        self._due_at = float("-inf")
        self.is_due = True
        """Whether it was to be measured again when it was last read."""

    async def measure(self) -> None:
        """Read the storage's clock, taken as the time in the middle of the round trip. Raises StorageError."""
        # This machine's clock is read once: if it is set during the round trip, the next reading notices.
        skew = time.time() - machine_clock()
        before = machine_clock()
        theirs = (await self._storage.now()).timestamp()
        after = machine_clock()
        error = (after - before) / 2
        offset = theirs - (skew + before + error)
        # An offset within the measurement's own error counts as 0.
        self.measured = Measured(offset if abs(offset) > error else 0.0, skew)
        self.postpone(MEASURE_SECONDS)

    def postpone(self, seconds: float) -> None:
        """Let the next measurement be due in so many seconds."""
        self._due_at = machine_clock() + seconds

    @property
    def due_in(self) -> float:
        """Seconds until it is to be measured again; 0.0 if that is due."""
        return max(self._due_at - machine_clock(), 0.0)

    def read(self) -> Reading:
        """Return the offset and the time."""
        measured = self.measured
        now, uptime = time.time(), machine_clock()
        offset = measured.offset_at(now, uptime)
        if offset != measured.offset:
            self._due_at = float("-inf")
        self.is_due = uptime >= self._due_at
        return Reading(offset, now)

    def new_id(self) -> UUID:
        """Return a new id of the storage's time."""
        return new_id(*self.read())
