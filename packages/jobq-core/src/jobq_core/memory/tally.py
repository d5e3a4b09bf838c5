"""`Tally`: the statistics of the memory storage."""

from __future__ import annotations

from copy import copy
from operator import add
from typing import Final, TypeAlias

import attrs

from jobq_core.memory.rows import Row
from jobq_core.states import JobState
from jobq_core.storage import Histogram, StatisticsRecord, bucket_of
from jobq_core.storage.statistics import LAST_BUCKET, STEPS
from jobq_core.timestamps import SECOND, to_datetime

MINUTE: Final = 60 * SECOND

Key: TypeAlias = tuple[int, str, str, JobState]
"""The start of a step, a queue, a kind and a state."""


def _empty() -> list[int]:
    return [0] * (LAST_BUCKET + 1)


@attrs.define(eq=False)
class Sums:
    """What is counted of one step, queue, kind and state. Times are in microseconds.

    waiting, running: the numbers of jobs by bucket.
    """

    jobs: int = 0
    waited: int = 0
    ran: int = 0
    waiting: list[int] = attrs.field(factory=_empty)
    running: list[int] = attrs.field(factory=_empty)

    def add(self, other: Sums) -> None:
        """Add what another has counted."""
        self.jobs += other.jobs
        self.waited += other.waited
        self.ran += other.ran
        self.waiting = list(map(add, self.waiting, other.waiting))
        self.running = list(map(add, self.running, other.running))


def _histogram(counts: list[int]) -> Histogram:
    return {bucket: count for bucket, count in enumerate(counts) if count}


class Tally:
    """The jobs that ended, by step, queue, kind and state.

    Each is counted by its minute. Minutes that are older than a day are summed up to longer steps: each job is in one
    of the steps only.
    """

    def __init__(self) -> None:
        self._steps: dict[int, dict[Key, Sums]] = {step: {} for step in STEPS}
        self._minutes = self._steps[60]

    def count(self, row: Row, now: int, *, ran: bool) -> None:
        """Count a job that ended. ran: whether it was PROCESSING until now."""
        key = (now - now % MINUTE, row.queue.name, row.job.kind, row.state)
        sums = self._minutes.get(key)
        if sums is None:
            sums = self._minutes[key] = Sums()
        sums.jobs += 1
        if ran:
            assert row.started_at is not None
            waited, duration = row.waited, now - row.started_at
            if waited < 0 or duration < 0:  # the clock was set back
                waited, duration = max(waited, 0), max(duration, 0)
            sums.waited += waited
            sums.ran += duration
            sums.waiting[bucket_of(waited / SECOND)] += 1
            sums.running[bucket_of(duration / SECOND)] += 1

    def fold(self, now: int) -> None:
        """Sum the steps that are kept no longer up to longer ones, and forget the longest ones."""
        for step, longer in zip(STEPS, [*STEPS, None][1:], strict=True):
            over = [key for key in self._steps[step] if key[0] <= now - STEPS[step] * SECOND]
            for key in over:
                sums = self._steps[step].pop(key)
                if longer is not None:
                    _add(self._steps[longer], _start(key, longer), sums)

    def records(
        self, queue: str | None, since: int, until: int, step: int, *, together: bool
    ) -> list[StatisticsRecord]:
        """Return the statistics of the steps that start at `since` or later and before `until`."""
        merged: dict[Key, Sums] = {}
        for shorter in STEPS:
            if shorter > step:
                break
            for key, sums in self._steps[shorter].items():
                start = _start(key, step)
                if since <= start[0] < until and queue in (None, key[1]):
                    _add(merged, (start[0], "", "", key[3]) if together else start, sums)
        return [
            StatisticsRecord(
                minute=to_datetime(start),
                queue=name,
                kind=kind,
                state=state,
                jobs=sums.jobs,
                waiting_seconds=sums.waited / SECOND,
                running_seconds=sums.ran / SECOND,
                waiting=_histogram(sums.waiting),
                running=_histogram(sums.running),
            )
            for (start, name, kind, state), sums in sorted(merged.items(), key=lambda item: item[0])
        ]


def _start(key: Key, step: int) -> Key:
    """Return the key of the step that a shorter one is part of."""
    start, queue, kind, state = key
    return start - start % (step * SECOND), queue, kind, state


def _add(to: dict[Key, Sums], key: Key, sums: Sums) -> None:
    there = to.get(key)
    if there is None:
        to[key] = copy(sums)
    else:
        there.add(sums)
