"""The finished runs of a worker, in the order of their ends, and the size of their settlements."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Final

from jobq_core.records import Progress
from jobq_core.storage import Settlement
from jobq_worker.running.run import Run

MOST_BYTES: Final = 16 * 1024 * 1024
"""Size of the settlements in memory above which no job is started or claimed."""
SMALL_BYTES: Final = 1024
"""Size of a settlement below which it does not count: the number of settlements bounds the small ones."""

JOB_BYTES: Final = 256
"""Size that an added job counts for, beside its arguments and headers."""


class FinishedRuns:
    """A queue of runs to settle. Runs whose jobs another transaction holds are kept apart until they are sent again.

    due: the runs to send, which only this class changes. bytes: the size of all settlements here.
    """

    def __init__(self) -> None:
        self.due: deque[Run] = deque()
        self.bytes = 0
        self._busy: list[Run] = []

    def __len__(self) -> int:
        return len(self.due) + len(self._busy)

    def __iter__(self) -> Iterator[Run]:
        yield from self.due
        yield from self._busy

    @property
    def busy(self) -> int:
        """How many runs wait because another transaction holds their jobs."""
        return len(self._busy)

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be settled that nothing more may run."""
        return self.bytes > MOST_BYTES

    def append(self, run: Run, settlement: Settlement) -> None:
        """Add a run with its settlement, which takes the last progress along; called for every job."""
        self.due.append(run)
        result = settlement.result
        if run.progress is not None:
            settlement.progress = run.progress
        elif result is not None and len(result) <= SMALL_BYTES and not settlement.jobs:
            return
        self.bytes += size_of(settlement)

    def first(self, count: int, size: int) -> list[Run]:
        """Return the first runs that are due: at most `count`, and of at most `size` bytes unless one has more."""
        if self.bytes <= size:
            return list(islice(self.due, count))
        runs: list[Run] = []
        for run in islice(self.due, count):
            size -= size_of(run.settlement)
            if size < 0 and runs:
                break
            runs.append(run)
        return runs

    def remove(self, runs: list[Run], busy: Collection[int]) -> None:
        """Take the first runs out, which are these; keep those with the indexes `busy` until `release_busy`."""
        for index in busy:
            self._busy.append(runs[index])
            self.bytes += size_of(runs[index].settlement)
        if self.bytes:
            self.bytes -= sum([size_of(run.settlement) for run in runs])
        for _ in runs:
            self.due.popleft()

    def release_busy(self) -> None:
        """Let the runs that are kept apart be sent next."""
        self.due.extendleft(reversed(self._busy))
        self._busy.clear()

    def replace_first(self, settlement: Settlement) -> None:
        """Settle the first run in another way."""
        run = self.due[0]
        self.bytes += size_of(settlement) - size_of(run.settlement)
        run.settlement = settlement

    def rotate(self) -> None:
        """Move the first run to the end."""
        self.due.rotate(-1)


def size_of(settlement: Settlement | None) -> int:
    """Return about how many bytes a settlement takes in an exchange; 0 for a small one."""
    if settlement is None:
        return 0
    result, error, progress = settlement.result, settlement.error, settlement.progress
    size = 0 if result is None else len(result)
    if error is not None:
        size += len(error.message) + len(error.traceback or "")
    for job in settlement.jobs:
        size += JOB_BYTES + len(job.arguments) + len(job.meta or b"")
    if progress is not None:
        size += progress_size(progress)
    return size if size > SMALL_BYTES else 0


def progress_size(progress: Progress) -> int:
    """Return about how many bytes a report takes in a call."""
    return len(progress.message or "") + (0 if progress.details is None else len(repr(progress.details)))
