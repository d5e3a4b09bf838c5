"""The limiter as the fetcher sees it: how many jobs may be claimed now, and when to ask again."""

from __future__ import annotations

from jobq_core.limiters import Limiter


class Gate:
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
