"""`simulate`: what an Autoscaler would do under a load, in a second instead of a day."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import attrs

from jobq_server.autoscaling.decide import BUSY, Cause, Decision, Load, State, decide
from jobq_server.autoscaling.options import Autoscaler
from jobq_server.autoscaling.process_load import ProcessLoad, load_of_all
from jobq_server.autoscaling.simulated_jobs import SimulatedJobs, SimulatedProcess

START_SECONDS: Final = 2.0
"""Time from the decision to add a process to its first job."""


@attrs.frozen(kw_only=True)
class Point:
    """One look of a simulation. at: seconds since its start. waiting: jobs that wait; oldest: for how many seconds.

    busy: workers that run a job, those that were removed meanwhile included. ended: jobs that have ended since the
    start. workers, processes: their numbers after the decision. cause, reason: of the decision on the processes where
    their number is scaled, else on the workers.
    """

    at: float
    waiting: int
    oldest: float
    busy: int
    ended: int
    workers: int
    cause: Cause
    reason: str
    processes: int = 1


def simulate(
    autoscaler: Autoscaler,
    *,
    arrivals: Callable[[float], float],
    run_seconds: float,
    duration: float,
    capacity: float = float("inf"),
    processor: float = 0.0,
    processors: float = float("inf"),
    workers: int | None = None,
    seed: int = 0,
) -> list[Point]:
    """Return each look of an Autoscaler at a server with a load, and its decision.

    arrivals: mean number of jobs that arrive in a second, at so many seconds since the start. run_seconds: mean length
    of a run; lengths are distributed exponentially. duration: seconds to simulate. capacity: how many jobs can run at
    once without slowing one another down, as at a database or service that the jobs use. processor: the share of a
    processor that a run needs: 0 for one that waits (default), 1 for one that computes; the runs of a process share one
    processor. processors: how many the machine has. workers: of each process at the start (default: the Autoscaler's
    min). seed: of the random numbers.
    """
    jobs = SimulatedJobs(
        random.Random(seed),
        arrivals,
        duration,
        run_seconds=run_seconds,
        capacity=capacity,
        processor=processor,
        processors=processors,
    )
    server = _Server(autoscaler, jobs, autoscaler.min if workers is None else autoscaler.clamp(workers))
    points: list[Point] = []
    at = 0.0
    while at < duration:
        at += autoscaler.interval
        jobs.advance(at)
        points.append(server.look(at))
    return points


class _Process:
    """A process of the simulated server, with the state of the Autoscaler of its workers."""

    def __init__(self, options: Autoscaler, simulated: SimulatedProcess, at: float) -> None:
        self._options = options
        self._simulated = simulated
        self._used = 0.0
        self.decision = Decision(cause=Cause.STEADY, reason="", state=State(workers=simulated.workers, changed_at=at))

    def look(self, at: float, waiting: int, oldest: float) -> ProcessLoad:
        """Decide on the workers; return what the process reports. waiting: its share of the jobs that wait."""
        process, state = self._simulated, self.decision.state
        load = Load(at=at, busy=process.busy, ended=process.ended)
        if self._options.max_processes is not None:
            load = attrs.evolve(load, processor=(process.used - self._used) / self._options.interval)
            self._used = process.used
        if state.is_full(load) or load.processor >= BUSY:
            load = attrs.evolve(load, waiting=waiting, oldest=oldest)
        self.decision = decide(self._options, state, load)
        process.workers = self.decision.workers
        return ProcessLoad.of(load, process.workers)

    def retire(self) -> None:
        """Start no more jobs."""
        self._simulated.retired = True


class _Server:
    """The processes of the simulated server, with the state of the Autoscaler of their number."""

    def __init__(self, options: Autoscaler, jobs: SimulatedJobs, workers: int) -> None:
        self._options = options
        self._jobs = jobs
        self._workers = workers
        self._processes = [self._start(0.0, 0.0) for _ in range(options.min_processes)]
        state = State(workers=len(self._processes), changed_at=0.0, noun="processes")
        self._decision = Decision(cause=Cause.STEADY, reason="", state=state)

    def _start(self, at: float, delay: float) -> _Process:
        return _Process(self._options, self._jobs.start(self._workers, at + delay), at)

    def look(self, at: float) -> Point:
        """Decide, act, and return what was seen and done."""
        jobs, oldest = self._jobs, self._jobs.oldest(at)
        share = -(-jobs.waiting // len(self._processes))
        loads = [process.look(at, share, oldest) for process in self._processes]
        decision = self._processes[0].decision
        if self._options.scales_processes:
            load = load_of_all(at, loads, max_workers=self._options.max, ended=jobs.ended)
            decision = self._decision = decide(self._options.of_processes(), self._decision.state, load)
            self._resize(at, decision.workers)
        return Point(
            at=at,
            waiting=jobs.waiting,
            oldest=oldest,
            busy=jobs.busy,
            ended=jobs.ended,
            workers=sum(process.decision.workers for process in self._processes),
            cause=decision.cause,
            reason=decision.reason,
            processes=len(self._processes),
        )

    def _resize(self, at: float, count: int) -> None:
        while len(self._processes) > count:
            self._processes.pop().retire()
        while len(self._processes) < count:
            self._processes.append(self._start(at, START_SECONDS))
