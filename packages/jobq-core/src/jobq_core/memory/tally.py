"""`Tally`: the statistics of the memory storage."""

from __future__ import annotations

from collections import Counter
from typing import Final

from msgspec import Struct, field

from jobq_core.memory.rows import Row
from jobq_core.states import JobState
from jobq_core.storage import StatisticsRecord, bucket_of
from jobq_core.timestamps import SECOND, to_datetime

MINUTE: Final = 60 * SECOND
KEPT: Final = 30 * 24 * 60 * MINUTE
"""Microseconds that statistics are kept."""


class Sums(Struct):
    """What is counted of one minute, queue, kind and state. Times are in microseconds."""

    jobs: int = 0
    waited: int = 0
    ran: int = 0
    waiting: Counter[int] = field(default_factory=Counter)
    running: Counter[int] = field(default_factory=Counter)


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
            waited, duration = row.waited, max(now - row.started_at, 0)
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
                waiting=dict(sums.waiting),
                running=dict(sums.running),
            )
            for (minute, name, kind, state), sums in sorted(self._sums.items(), key=lambda item: item[0])
            if since <= minute < until and queue in (None, name)
        ]
