"""`simulate`: what an Autoscaler would do under a load, in a second instead of a day."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from jobq_server.autoscaling.decide import Cause, Load, State, decide
from jobq_server.autoscaling.options import Autoscaler

STRETCH: Final = 1.0
"""Length of the steps of arrivals, in seconds: their rate is the same during each."""


@attrs.frozen(kw_only=True)
class Point:
    """One look of a simulation. at: seconds since its start. waiting: jobs that wait; oldest: for how many seconds.

    busy: workers that run a job, those that were removed meanwhile included. workers, cause, reason: the decision.
    ended: jobs that have ended since the start.
    """

    at: float
    waiting: int
    oldest: float
    busy: int
    ended: int
    workers: int
    cause: Cause
    reason: str


def simulate(
    autoscaler: Autoscaler,
    *,
    arrivals: Callable[[float], float],
    run_seconds: float,
    duration: float,
    capacity: float = float("inf"),
    workers: int | None = None,
    seed: int = 0,
) -> list[Point]:
    """Return each look of an Autoscaler at a server with a load, and its decision.

    arrivals: mean number of jobs that arrive in a second, at so many seconds since the start. run_seconds: mean length
    of a run; lengths are distributed exponentially. duration: seconds to simulate. capacity: how many jobs can run at
    once without slowing one another down, as at a database or service that the jobs use. workers: at the start
    (default: the Autoscaler's min). seed: of the random numbers.
    """
    load = _Jobs(random.Random(seed), arrivals, run_seconds, capacity, duration)
    state = State(workers=autoscaler.min if workers is None else autoscaler.clamp(workers), changed_at=0.0)
    points: list[Point] = []
    at = 0.0
    while at < duration:
        at += autoscaler.interval
        load.advance(at, state.workers)
        seen = Load(at=at, busy=load.busy)
        if state.is_full(seen):
            seen = attrs.evolve(seen, ended=load.ended, waiting=load.waiting, oldest=load.oldest(at))
        decision = decide(autoscaler, state, seen)
        state = decision.state
        points.append(
            Point(
                at=at,
                waiting=load.waiting,
                oldest=load.oldest(at),
                busy=load.busy,
                ended=load.ended,
                workers=state.workers,
                cause=decision.cause,
                reason=decision.reason,
            )
        )
    return points


class _Jobs:
    """The jobs of a simulation: those that wait, by their arrival, and the number of those that run.

    The lengths of runs have no memory, so the time to the next end depends on the number of runs alone.
    """

    def __init__(
        self,
        chance: random.Random,
        arrivals: Callable[[float], float],
        run_seconds: float,
        capacity: float,
        duration: float,
    ) -> None:
        self._chance = chance
        self._run_seconds = run_seconds
        self._capacity = capacity
        self._coming = _arrivals(chance, arrivals, duration)
        self._next = next(self._coming)
        self._queue: deque[float] = deque()
        self._now = 0.0
        self.busy = 0
        self.ended = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def oldest(self, at: float) -> float:
        return at - self._queue[0] if self._queue else 0.0

    def advance(self, until: float, workers: int) -> None:
        """Let jobs arrive, start and end up to a time, with so many workers."""
        while True:
            while self._queue and self.busy < workers:
                self._queue.popleft()
                self.busy += 1
            end = self._next_end()
            self._now = min(self._next, end, until)
            if self._now == until:
                return
            if self._now == end:
                self.busy -= 1
                self.ended += 1
            else:
                self._queue.append(self._now)
                self._next = next(self._coming)

    def _next_end(self) -> float:
        if not self.busy:
            return float("inf")
        return self._now + self._chance.expovariate(min(self.busy, self._capacity) / self._run_seconds)


def _arrivals(chance: random.Random, rate: Callable[[float], float], duration: float) -> Iterator[float]:
    """Yield the times at which jobs arrive, and at the end a time that never comes."""
    start = 0.0
    while start < duration:
        per_second = rate(start)
        at = start
        while per_second > 0 and (at := at + chance.expovariate(per_second)) < start + STRETCH:
            yield at
        start += STRETCH
    yield float("inf")
