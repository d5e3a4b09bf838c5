"""`Exchanges`: what the exchanges of a worker took and brought, and the runs that started, counted while metrics ask
for it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from jobq_core.events import JobStarted
from jobq_core.states import Ending, JobState
from jobq_worker.running.run import Run

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the buckets for the time that an exchange takes."""
JOBS: Final = (0, 1, 5, 10, 50, 100, 500, 1_000, 5_000)
"""The upper bounds of the buckets for the jobs that an exchange settles or claims."""
MAX_RUN_KEYS: Final = 20_000
"""The number of combinations of queue, kind and ending that are counted apart; of more, queue and kind are 'other'."""
OTHER: Final = "other"
"""What stands for the queues and kinds that are too many to be named."""

RunKey: TypeAlias = tuple[str, str, Ending]

_ENDINGS: Final = {
    JobState.COMPLETED: Ending.COMPLETE,
    JobState.FAILED: Ending.FAIL,
    JobState.ABORTED: Ending.ABORT,
    JobState.DISABLED: Ending.DISABLE,
}


def ending_of(run: Run, state: JobState) -> Ending:
    """Return how a run ended, by the state that its settlement led to."""
    settlement = run.settlement
    assert settlement is not None  # runs without one are never sent
    return _ENDINGS.get(state, settlement.ending)


class Buckets:
    """A histogram. bounds: the upper bounds of its buckets, ascending; a last bucket takes what is greater."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Exchanges:
    """Counts exchanges by their time and their jobs, and runs by queue, kind and ending, while it is `enabled`; and the
    starts that it is told, by queue and kind."""

    def __init__(self) -> None:
        self.enabled = False
        self.seconds = Buckets(SECONDS)
        self.jobs = Buckets(JOBS)
        self.runs: dict[RunKey, int] = {}
        self.starts: dict[tuple[str, str], int] = {}

    def started(self, event: JobStarted) -> None:
        """Count the start of a run."""
        _count(self.starts, (event.queue, event.kind))

    def record(self, seconds: float, jobs: int) -> None:
        """Record an exchange that took so many seconds and settled and claimed so many jobs."""
        self.seconds.observe(seconds)
        self.jobs.observe(jobs)

    def count(self, runs: Sequence[Run], states: Sequence[JobState | None]) -> None:
        """Count the runs of an exchange by the states that they led to; those whose lease was over are left out."""
        for run, state in zip(runs, states, strict=True):
            if state is not None:
                _count(self.runs, (run.job.queue, run.job.kind, ending_of(run, state)))


def _count(counts: dict[Any, int], key: tuple[str, ...]) -> None:
    """Count under a key that begins with a queue and a kind, or under OTHER if too many have been counted apart."""
    if key not in counts and len(counts) >= MAX_RUN_KEYS:
        key = (OTHER, OTHER, *key[2:])
    counts[key] = counts.get(key, 0) + 1
