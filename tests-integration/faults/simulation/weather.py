"""Faults between the processes and the storage, drawn from the seed. They stop at a planned time."""

from __future__ import annotations

from typing import NamedTuple

from .world import World


class Fate(NamedTuple):
    """The fate of one call. effect: seconds until it takes effect, None: never. answer: seconds until the caller gets
    an answer. answered: True for the storage's answer, False for StorageUnavailableError."""

    effect: float | None
    answer: float
    answered: bool


class Outage(NamedTuple):
    """A time in which no call of a process reaches the storage. victim: name of the process, None: all of them."""

    start: float
    end: float
    victim: str | None = None


class Weather:
    """Draws the fate of calls and notifications.

    refused, lost, late, slow: probability that a call never arrives, takes effect without an answer, takes effect after
    its caller was told that the storage is unavailable, or is answered just within the time limit. deaf: probability
    that a notification is lost. limit: seconds after which a caller gives up. calm_at: when the faults stop.
    """

    def __init__(self, world: World, *, rough: float, limit: float, calm_at: float) -> None:
        draw = world.random.random
        self._world = world
        self._draw = draw
        self.limit = limit
        self.calm_at = calm_at
        self.refused = rough * draw()
        self.lost = rough * draw()
        self.late = rough * draw()
        self.slow = rough * draw()
        self.deaf = min(1.0, 3 * rough) * draw()
        self.outages: list[Outage] = []

    @property
    def calm(self) -> bool:
        """Whether the faults have stopped."""
        return self._world.now >= self.calm_at

    def away(self, process: str) -> bool:
        """Return whether an outage separates this process, or one that replaced it, from the storage now."""
        now, name = self._world.now, process.partition(".")[0]
        return any(each.start <= now < each.end and each.victim in (None, name) for each in self.outages)

    def fate(self, process: str) -> Fate:
        """Draw the fate of a call that a process makes now."""
        draw = self._draw
        way, back = 0.004 * draw(), 0.004 * draw()
        if self.calm:
            return Fate(way, way + back, True)
        if self.away(process):
            return Fate(None, way + back if draw() < 0.5 else self.limit, False)
        kind = draw()
        if kind < self.refused:
            return Fate(None, way + back, False)
        kind -= self.refused
        if kind < self.lost:
            return Fate(way, self.limit if draw() < 0.3 else way + back, False)
        kind -= self.lost
        if kind < self.late:
            # The connection broke, and the server finishes the call alone: after a moment, or after many seconds.
            answer = self.limit if draw() < 0.5 else way
            return Fate(answer + way + (0.1 if draw() < 0.5 else 12.0) * draw(), answer, False)
        kind -= self.late
        if kind < self.slow:
            answer = self.limit * draw()
            return Fate(answer * draw(), answer, True)
        return Fate(way, way + back, True)

    def notifies(self, process: str) -> bool:
        """Draw whether a notification reaches a process."""
        return self.calm or (not self.away(process) and self._draw() >= self.deaf)
