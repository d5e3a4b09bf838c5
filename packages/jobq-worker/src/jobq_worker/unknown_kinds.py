"""Jobs of kinds that a worker has no handler for: they are handed back, with growing delays."""

from __future__ import annotations

import logging
from typing import Final

logger = logging.getLogger("jobq.worker")

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 60.0
"""The first and the longest time that such a job is kept from the workers; it doubles in between."""


class UnknownKinds:
    """Counts them in the worker's statistics, and determines the delay of the next one of each kind."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts
        self._delays: dict[str, tuple[float, float]] = {}

    def delay(self, kind: str, now: float) -> float:
        """Count a job of this kind and return its delay in seconds, which doubles once the last delay is over."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        known = self._delays.get(kind)
        if known is None:
            logger.warning("no handler for jobs of kind %r; they are handed back to other workers", kind)
            delay, until = FIRST_SECONDS, now + FIRST_SECONDS
        else:
            delay, until = known
            if now >= until:
                delay = min(delay * 2, LONGEST_SECONDS)
                until = now + delay
        self._delays[kind] = (delay, until)
        return delay
