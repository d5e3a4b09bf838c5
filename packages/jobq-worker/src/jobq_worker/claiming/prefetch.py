"""How much to claim: the free slots, and short jobs ahead of them."""

from __future__ import annotations

from typing import Final

from jobq_worker.claiming.budget import ByteBudget

AHEAD_SECONDS: Final = 0.05
"""Work to hold in the buffer."""
LONGEST_SECONDS: Final = 0.025
"""Mean length of a run above which nothing is prefetched: other workers could run a job that waits here."""
MOST: Final = 4000
"""Maximum number of jobs in the buffer: two batches, so that one runs while the next is claimed."""
MOST_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of the arguments of one claim, and of those in the buffer if the next jobs are as large as the last."""
LEAST_BYTES: Final = 256 * 1024
"""The size that a claim is halved down to: that of the largest arguments."""


class Prefetch:
    """Derives the size of the buffer from how fast runs end, from exchange to exchange."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self.budget = ByteBudget(MOST_BYTES, LEAST_BYTES)
        """Maximum size of the arguments of one claim."""
        self.size = 0
        """The number of claimed jobs that may wait for a slot."""

    def observe(self, runs: int, seconds: float, size: int, slots: int) -> None:
        """Record that `runs` runs ended, after `seconds` seconds and with `size` bytes of arguments in all.

        A longer mean counts at once, a shorter one by half.
        """
        mean = seconds / runs
        if self._mean is None or mean > self._mean:
            self._mean = mean
        else:
            self._mean += (mean - self._mean) * 0.5
        if self._mean > LONGEST_SECONDS:
            self.size = 0
        else:
            self.size = min(int(slots * AHEAD_SECONDS / max(self._mean, 1e-6)), MOST, MOST_BYTES * runs // max(size, 1))

    def room(self, slots: int, free: int, claimed: int, *, limited: bool) -> int:
        """Return how many jobs to claim, given the slots, the free ones, and the claimed jobs that wait for one.

        With a limiter nothing is claimed ahead. Nothing is claimed while more than half the buffer is full: small
        claims beside due settlements would keep it full, and the next large claim would come when it is empty.
        """
        ahead = self.size if slots and not limited else 0
        return 0 if claimed * 2 > ahead else free + ahead - claimed
