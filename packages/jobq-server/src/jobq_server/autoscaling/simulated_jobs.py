"""`SimulatedJobs`: the jobs and processes of a simulation."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

STRETCH: Final = 1.0
"""Length of the steps of arrivals, in seconds: their rate is the same during each."""


class SimulatedProcess:
    """A process that runs jobs. workers: how many at once. used: for how long it has used or waited for a processor."""

    __slots__ = ("busy", "ended", "rate", "retired", "share", "started", "used", "workers")

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.started = False
        self.retired = False
        self.busy = 0
        self.ended = 0
        self.used = 0.0
        self.share = 0.0
        """The share of a processor that it uses or waits for now."""
        self.rate = 0.0
        """How many of its jobs end in a second now, where they need a processor."""


class SimulatedJobs:
    """The jobs of a simulation: those that wait, by their arrival, and the number of those that run in each process.

    The lengths of runs have no memory, so the time to the next end depends on the number of runs alone. `simulate` says
    what the parameters are.
    """

    def __init__(
        self,
        chance: random.Random,
        arrivals: Callable[[float], float],
        duration: float,
        *,
        run_seconds: float,
        capacity: float,
        processor: float,
        processors: float,
    ) -> None:
        self._chance = chance
        self._run_seconds = run_seconds
        self._capacity = capacity
        self._processor = processor
        self._processors = processors
        self._coming = _arrivals(chance, arrivals, duration)
        self._next = next(self._coming)
        self._queue: deque[float] = deque()
        self._processes: list[SimulatedProcess] = []
        self._starts: list[tuple[float, SimulatedProcess]] = []
        self._now = 0.0
        self.busy = 0
        self.ended = 0

    @property
    def waiting(self) -> int:
        """The number of jobs that wait."""
        return len(self._queue)

    def oldest(self, at: float) -> float:
        """Return for how many seconds the first job has waited."""
        return at - self._queue[0] if self._queue else 0.0

    def start(self, workers: int, at: float) -> SimulatedProcess:
        """Add a process, which takes jobs from that time on."""
        process = SimulatedProcess(workers)
        self._processes.append(process)
        self._starts.append((at, process))
        return process

    def advance(self, until: float) -> None:
        """Let jobs arrive, start and end up to a time."""
        self._processes = [process for process in self._processes if process.busy or not process.retired]
        while True:
            while self._starts and self._starts[0][0] <= self._now:
                self._starts.pop(0)[1].started = True
            while self._queue and (process := self._freest()) is not None:
                self._queue.popleft()
                process.busy += 1
                self.busy += 1
            rate = self._measure()
            end = self._now + self._chance.expovariate(rate) if rate else float("inf")
            start = self._starts[0][0] if self._starts else until
            before, self._now = self._now, min(self._next, end, start, until)
            if self._processor:
                for process in self._processes:
                    process.used += process.share * (self._now - before)
            if self._now == until:
                return
            if self._now == end:
                self._end_job()
            elif self._now == self._next:
                self._queue.append(self._now)
                self._next = next(self._coming)

    def _freest(self) -> SimulatedProcess | None:
        """Return the process with the most free workers, if any is free."""
        most, found = 0, None
        if len(self._processes) == 1:
            process = self._processes[0]
            return process if process.workers > process.busy and process.started else None
        for process in self._processes:
            free = process.workers - process.busy
            if free > most and process.started and not process.retired:
                most, found = free, process
        return found

    def _measure(self) -> float:
        """Reckon how fast each process is, now that so many jobs run in it; return the sum of the rates."""
        if not self._processor:
            return min(self.busy, self._capacity) / self._run_seconds
        demand = 0.0
        for process in self._processes:
            process.share = min(process.busy * self._processor, 1.0)
            demand += process.share
        given = self._processors / demand if demand > self._processors else 1.0
        speed = min(given, self._capacity / self.busy if self.busy > self._capacity else 1.0) / self._run_seconds
        total = 0.0
        for process in self._processes:
            process.rate = speed * process.busy / max(1.0, process.busy * self._processor)
            total += process.rate
        return total

    def _end_job(self) -> None:
        process = self._processes[0]
        if len(self._processes) > 1:
            rates = [each.rate if self._processor else each.busy for each in self._processes]
            (process,) = self._chance.choices(self._processes, rates)
        process.busy -= 1
        process.ended += 1
        self.busy -= 1
        self.ended += 1


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
