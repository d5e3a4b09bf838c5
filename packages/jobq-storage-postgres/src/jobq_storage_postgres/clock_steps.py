"""`ClockSteps`: notices that the database's clock was set forward, so that no live worker counts as lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from jobq_core.machine_clock import machine_clock

SMALLEST_SECONDS: Final = 0.5
"""Minimum step that is noticed. Clocks that are slewed differ by less."""


class Step(Struct, frozen=True):
    """A step of the database's clock: its seconds, and the time that the clock would show now without it."""

    seconds: float
    old_time: datetime


class ClockSteps:
    """Compares the database's clock with this machine's, which is never set.

    A clock that is set back takes no live worker for lost, so only steps forward are noticed.
    """

    def __init__(self, clock: Callable[[], float] = machine_clock) -> None:
        self.clock = clock
        self._read: tuple[datetime, float] | None = None

    def compare(self, now: datetime, before: float) -> Step | None:
        """Compare a reading of the database's clock with the last one that was kept.

        before: this machine's time before the reading was asked for; it ends now.
        """
        if self._read is None:
            return None
        read, at = self._read
        old_time = read + timedelta(seconds=self.clock() - at)
        # However late the answer came, the step is no smaller than this.
        seconds = (now - old_time).total_seconds()
        if seconds < SMALLEST_SECONDS:
            return None
        return Step(seconds + self.clock() - before, old_time)

    def keep(self, now: datetime, before: float) -> None:
        """Keep a reading for later comparisons."""
        self._read = now, before
