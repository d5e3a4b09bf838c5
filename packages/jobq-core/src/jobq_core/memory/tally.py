"""`Tally`: the statistics of the memory storage."""

from __future__ import annotations

from typing import Final

import attrs

from jobq_core.memory.rows import Row
from jobq_core.states import JobState
from jobq_core.storage import Histogram, StatisticsRecord, bucket_of
from jobq_core.storage.statistics import LAST_BUCKET
from jobq_core.timestamps import SECOND, to_datetime

MINUTE: Final = 60 * SECOND
KEPT: Final = 30 * 24 * 60 * MINUTE
"""Microseconds that statistics are kept."""


def _empty() -> list[int]:
    return [0] * (LAST_BUCKET + 1)


@attrs.define(eq=False)
class Sums:
    """What is counted of one minute, queue, kind and state. Times are in microseconds.

    waiting, running: the numbers of jobs by bucket.
    """

    jobs: int = 0
    waited: int = 0
    ran: int = 0
    waiting: list[int] = attrs.field(factory=_empty)
    running: list[int] = attrs.field(factory=_empty)


def _histogram(counts: list[int]) -> Histogram:
    return {bucket: count for bucket, count in enumerate(counts) if count}


class Tally:
    """The jobs that ended, by minute, queue, kind and state."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, str, str, JobState], Sums] = {}

    def count(self, row: Row, now: int, *, ran: bool) -> None:
        """Count a job that ended. ran: whether it was PROCESSING until now."""
        key = (now - now % MINUTE, row.queue.name, row.job.kind, row.state)
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = Sums()
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
        """Forget the minutes that are kept no longer."""
        self._sums = {key: sums for key, sums in self._sums.items() if key[0] > now - KEPT}

    def records(self, queue: str | None, since: int, until: int) -> list[StatisticsRecord]:
        """Return the statistics of the minutes that start at `since` or later and before `until`."""
        return [
            StatisticsRecord(
                minute=to_datetime(minute),
                queue=name,
                kind=kind,
                state=state,
                jobs=sums.jobs,
                waiting_seconds=sums.waited / SECOND,
                running_seconds=sums.ran / SECOND,
                waiting=_histogram(sums.waiting),
                running=_histogram(sums.running),
            )
            for (minute, name, kind, state), sums in sorted(self._sums.items(), key=lambda item: item[0])
            if since <= minute < until and queue in (None, name)
        ]
