"""How many short jobs to claim beyond the free slots, so that the slots never wait for the storage."""

from __future__ import annotations

from typing import Final

from jobq_core.limiters import Limiter

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


class LimiterGate:
    """Asks the limiter before each claim, and not again before it can answer otherwise."""

    def __init__(self, limiter: Limiter, poll_interval: float) -> None:
        self._limiter = limiter
        self._poll_interval = poll_interval
        self.closed_until = float("-inf")

    def look(self) -> None:
        """Let the limiter be asked again, since a run has ended."""
        self.closed_until = float("-inf")

    async def ask(self, wanted: int, now: float) -> int:
        """Reserve up to `wanted` starts and return how many were had."""
        grant = await self._limiter.try_acquire(wanted)
        if grant.count < wanted:
            # Without a time, a run must end first: maybe one of another worker that shares the limiter, so look anyway.
            self.closed_until = now + (self._poll_interval if grant.retry_in is None else grant.retry_in)
        return grant.count

    async def give_back(self, count: int) -> None:
        """Return reserved starts for which there was no job."""
        if count:
            await self._limiter.release(count)
            self.look()
