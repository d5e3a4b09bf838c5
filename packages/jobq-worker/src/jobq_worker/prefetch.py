"""How many short jobs to claim beyond the free slots, so that the slots never wait for the storage."""

from __future__ import annotations

from typing import Final

AHEAD: Final = 0.05
"""Seconds of work to hold in the buffer."""
LONGEST: Final = 0.025
"""Seconds of the mean run above which nothing is prefetched: such a job would wait here while others could run it."""
MOST: Final = 4000
"""Jobs in the buffer at most: two batches, so that one can be run while the next is under way."""
MOST_BYTES: Final = 16 * 1024 * 1024
"""Bytes of arguments in the buffer at most, if the next jobs are as large as the last ones."""


class Prefetch:
    """Follows how fast runs end, from exchange to exchange."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self.size = 0
        """How many jobs may wait in the buffer."""

    def observe(self, runs: int, seconds: float, size: int, slots: int) -> None:
        """Take in that so many runs ended, after so many seconds and with so many bytes of arguments in all.

        A longer mean counts at once.
        """
        mean = seconds / runs
        if self._mean is None or mean > self._mean:
            self._mean = mean
        else:
            self._mean += (mean - self._mean) * 0.5
        if self._mean > LONGEST:
            self.size = 0
        else:
            self.size = min(int(slots * AHEAD / max(self._mean, 1e-6)), MOST, MOST_BYTES * runs // max(size, 1))
