"""How much the fault tests try: all of them take the fixture `scale`, and ask it."""

from __future__ import annotations

import attrs

SMALLEST = 0
NAMES = {"smallest": SMALLEST, "faults": 1, "soak": 5}


def parse(text: str) -> int:
    """Return the factor that a name or a whole number stands for. Raises ValueError."""
    factor = NAMES[text] if text in NAMES else int(text)
    if factor < 0:
        raise ValueError(text)
    return factor


@attrs.frozen
class Scale:
    """By how much the numbers of each test are multiplied.

    factor: 1 tries what a change to that part is held against; 5 is the soak's. With 0, the smallest scale, each fault
    is tried as rarely as shows its promise.
    """

    factor: int

    def times(self, count: int, *, least: int = 1, most: int | None = None) -> int:
        """Return how many to try: `count` by the factor and no more than `most`, or `least` at the smallest scale."""
        wanted = self.factor * count or least
        return wanted if most is None else min(wanted, most)

    @property
    def is_smallest(self) -> bool:
        """Whether each fault is tried as rarely as shows its promise."""
        return self.factor == SMALLEST

    @property
    def is_soak(self) -> bool:
        """Whether there is time for what takes long, and for all ways in which a thing can be done."""
        return self.factor > 1
