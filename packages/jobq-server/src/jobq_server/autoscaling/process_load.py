"""`ProcessLoad`: what a process of a server reports on itself, and what the reports of all of them make."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from jobq_server.autoscaling.decide import Load


@attrs.frozen(kw_only=True)
class ProcessLoad:
    """The load of one process: its workers, and the fields of its `Load`."""

    workers: int
    busy: float
    ended: int
    waiting: int
    oldest: float
    processor: float

    @classmethod
    def of(cls, load: Load, workers: int) -> ProcessLoad:
        """Return the load of a process with so many workers."""
        return cls(
            workers=workers,
            busy=load.busy,
            ended=load.ended,
            waiting=load.waiting,
            oldest=load.oldest,
            processor=load.processor,
        )

    def busy_share(self, max_workers: int) -> float:
        """Return how busy the process is, 1 at most: its processor, or its workers, of which it may have so many."""
        return min(max(self.processor, self.busy / max_workers), 1.0)


def load_of_all(at: float, loads: Iterable[ProcessLoad], *, max_workers: int, ended: int) -> Load:
    """Return the load of a server whose processes have these loads, with processes in the place of workers.

    at: seconds of a monotonic clock. ended: jobs that have ended in all processes so far, those that ended included.
    """
    busy, waiting, oldest = 0.0, 0, 0.0
    for load in loads:
        busy += load.busy_share(max_workers)
        waiting += load.waiting
        oldest = max(oldest, load.oldest)
    return Load(at=at, busy=busy, ended=ended, waiting=waiting, oldest=oldest)
