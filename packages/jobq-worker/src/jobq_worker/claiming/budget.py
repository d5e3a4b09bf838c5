"""How many bytes to send or to ask for in one call: halved when the storage does not answer, and grown again later."""

from __future__ import annotations

from typing import Final

CALM: Final = 8
"""The number of answers after which a budget grows again."""
LONGEST_CALM: Final = 256
"""The number that it grows to while each growth is followed by a failure: a failure may take a whole time limit."""


class ByteBudget:
    """A number of bytes from `least` to `most`. bytes: the present one."""

    def __init__(self, most: int, least: int) -> None:
        self._most = most
        self._least = least
        self._answers = 0
        self._calm = CALM
        self._has_grown = False
        self.bytes = most

    def halve(self, used: int | None = None) -> None:
        """Shrink after a call that was not answered. used: its bytes (default: all of the budget)."""
        used = self.bytes if used is None else min(used, self.bytes)
        if used <= self._least:
            return
        self.bytes = max(used // 2, self._least)
        self._answers = 0
        if self._has_grown:
            self._has_grown = False
            self._calm = min(self._calm * 2, LONGEST_CALM)

    def answered(self) -> None:
        """Record that a call was answered."""
        if self.bytes == self._most:
            return
        self._answers += 1
        if self._answers >= self._calm:
            self._answers, self._has_grown = 0, True
            self.bytes = min(self.bytes * 2, self._most)
