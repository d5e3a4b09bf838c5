"""`Labels`: keeps the values of a label bounded, since each value is a series of its own."""

from __future__ import annotations

from typing import Final

from jobq_worker.settling.exchanges import OTHER

MAX_QUEUES: Final = 100
"""The number of queues that have series of their own; the jobs of the others are in those of the queue 'other'."""
MAX_KINDS: Final = 200
"""The same of kinds."""


class Labels:
    """The values of one label: the first ones that come, at most `limit`, and 'other' for all that come later."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """Return the value for a name."""
        if name in self._known:
            return name
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name
