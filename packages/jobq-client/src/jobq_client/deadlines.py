"""`Deadlines`: one timer that looks for overdue calls, however many calls there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

LOOKS: Final = 8
"""How many times within the limit overdue calls are looked for, so a call ends an eighth of the limit late at most."""


class Deadlines:
    """Calls `end_overdue` now and then, as long as it says that calls are under way.

    seconds: the limit of a call. A timer of its own for each call would take a tenth of the time of an add.
    """

    def __init__(self, seconds: float, end_overdue: Callable[[], bool]) -> None:
        self._interval = seconds / LOOKS
        self._end_overdue = end_overdue
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Take note that a call begins."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._interval, self._look)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._end_overdue():
            self.watch()
