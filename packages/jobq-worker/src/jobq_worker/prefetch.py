"""How much to claim: the free slots, short jobs ahead of them, and no more than the limiter allows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from jobq_core.limiters import Limiter

logger = logging.getLogger("jobq.worker")

AHEAD_SECONDS: Final = 0.05
"""Work to hold in the buffer."""
LONGEST_SECONDS: Final = 0.025
"""Mean length of a run above which nothing is prefetched: other workers could run a job that waits here."""
MOST: Final = 4000
"""Maximum number of jobs in the buffer: two batches, so that one runs while the next is claimed."""
MOST_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of the arguments in the buffer, if the next jobs are as large as the last ones."""


class Prefetch:
    """Derives the size of the buffer from how fast runs end, from exchange to exchange."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self.size = 0
        """The number of claimed jobs that may wait for a slot."""

    def observe(self, runs: int, seconds: float, size: int, slots: int) -> None:
        """Take in that `runs` runs ended, after `seconds` seconds and with `size` bytes of arguments in all.

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


class LimiterGate:
    """Asks the limiter before each claim, and waits as long as it says before asking again.

    closed_until: by the event loop's clock; before it, nothing may start.
    """

    def __init__(self, limiter: Limiter, poll_interval: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._poll_interval = poll_interval
        self._calls: set[asyncio.Task[None]] = set()
        self.limiter = limiter
        self.closed_until = float("-inf")

    def reopen(self) -> None:
        """Ask the limiter again at the next claim, since a run has ended."""
        self.closed_until = float("-inf")

    async def ask(self, wanted: int, now: float) -> int:
        """Reserve up to `wanted` starts; return how many the limiter granted."""
        grant = await self.limiter.try_acquire(wanted)
        if grant.count < wanted:
            # Without a time, a run must end first. It may be a run of another worker that shares the limiter: poll.
            self.closed_until = now + (self._poll_interval if grant.retry_in is None else grant.retry_in)
        return grant.count

    async def give_back(self, count: int) -> None:
        """Return reserved starts for which there was no job."""
        if count:
            await self.limiter.release(count)
            self.reopen()

    def start_call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a call of the limiter in the background."""
        task = self._loop.create_task(coroutine)
        self._calls.add(task)
        task.add_done_callback(self._call_ended)

    def _call_ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the limiter failed", exc_info=error)

    async def wait_calls(self) -> None:
        """Wait until all calls in the background have ended."""
        while self._calls:
            await asyncio.wait(self._calls)
