"""Jobs of kinds that a worker has no handler for: handed back for one that does, less and less often."""

from __future__ import annotations

import logging
from typing import Final

logger = logging.getLogger("jobq.worker")

FIRST: Final = 1.0
LONGEST: Final = 60.0
"""Seconds that such a job waits before a worker looks at it again, doubling from the first to the longest."""


class UnknownKinds:
    """Counts them in the worker's statistics, and says how long the next one of a kind is to wait."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts
        self._delays: dict[str, tuple[float, float]] = {}

    def delay(self, kind: str, now: float) -> float:
        """Count one more job of this kind and return its wait; the wait doubles when the last one has passed."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        known = self._delays.get(kind)
        if known is None:
            logger.warning("no handler for jobs of kind %r here; they are handed back for a worker that has one", kind)
            delay, until = FIRST, now + FIRST
        else:
            delay, until = known
            if now >= until:
                delay = min(delay * 2, LONGEST)
                until = now + delay
        self._delays[kind] = (delay, until)
        return delay
