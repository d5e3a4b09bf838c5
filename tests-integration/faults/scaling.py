"""How much the fault tests try: all of them use the fixture `scale`."""

from __future__ import annotations

import attrs

SMALLEST = 0
NAMES = {"smallest": SMALLEST, "faults": 1, "soak": 5}


def parse(text: str) -> int:
    """Return the factor of a name or an integer. Raises ValueError."""
    factor = NAMES[text] if text in NAMES else int(text)
    if factor < 0:
        raise ValueError(text)
    return factor


@attrs.frozen
class Scale:
    """The factor by which each test multiplies its numbers.

    factor: 1 is the scale for a change to the part under test; 5 is the soak. At 0, the smallest scale, each fault is
    tried just often enough to show its promise.
    """

    factor: int

    def times(self, count: int, *, least: int = 1, most: int | None = None) -> int:
        """Return the number of tries: `count` times the factor, at most `most`; or `least` at the smallest scale."""
        wanted = self.factor * count or least
        return wanted if most is None else min(wanted, most)

    @property
    def is_smallest(self) -> bool:
        """Whether each fault is tried just often enough to show its promise."""
        return self.factor == SMALLEST

    @property
    def is_soak(self) -> bool:
        """Whether there is time for slow tests and for all variants of each fault."""
        return self.factor > 1
