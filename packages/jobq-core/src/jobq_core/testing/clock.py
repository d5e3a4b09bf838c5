"""A clock that stands still until it is moved."""

from __future__ import annotations

import time


class ManualClock:
    """Seconds since 1970, for `MemoryQueueStorage(clock=…)`. start: the first time (default: this machine's)."""

    def __init__(self, start: float | None = None) -> None:
        self._now = time.time() if start is None else start

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forward by a number of seconds."""
        self._now += seconds
