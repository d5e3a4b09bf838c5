"""Statistics: how rows of sums become records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from jobq_core.states import JobState
from jobq_core.storage import ReaderStorage, StatisticsRecord
from jobq_core.storage.statistics import check_step
from jobq_storage_postgres.binary import pack_int4, pack_moment, pack_optional, pack_text
from jobq_storage_postgres.engine import Facet

_Key: TypeAlias = tuple[datetime, str, str, str]


class Statistics(Facet, ReaderStorage):
    """Reads the statistics of steps."""

    async def statistics(
        self, queue: str | None = None, *, since: datetime | None = None, until: datetime | None = None, step: int = 60
    ) -> list[StatisticsRecord]:
        rows = await self._engine.fetch(
            "statistics",
            pack_optional(pack_text, queue),
            pack_optional(pack_moment, since),
            pack_optional(pack_moment, until),
            pack_int4(check_step(step)),
        )
        return _records(rows)


class _Sums:
    """What the rows of one step, queue, kind and state add up to."""

    def __init__(self) -> None:
        self.jobs = 0
        self.waited = self.ran = 0.0
        self.waiting: Counter[int] = Counter()
        self.running: Counter[int] = Counter()

    def add(self, row: Sequence[Any]) -> None:
        jobs, waited, ran, waiting, running = row
        self.jobs += jobs
        self.waited += waited
        self.ran += ran
        for histogram, pairs in ((self.waiting, waiting), (self.running, running)):
            for bucket, count in pairs:
                histogram[bucket] += count


def _records(rows: Iterable[Sequence[Any]]) -> list[StatisticsRecord]:
    """Return a record for each step, queue, kind and state, in this order, of the rows of `statistics`."""
    found: dict[_Key, _Sums] = {}
    for start, queue, kind, state, *sums in rows:
        found.setdefault((start, queue, kind, state), _Sums()).add(sums)
    return [
        StatisticsRecord(
            minute=start,
            queue=queue,
            kind=kind,
            state=JobState(state),
            jobs=each.jobs,
            waiting_seconds=each.waited,
            running_seconds=each.ran,
            waiting=dict(each.waiting),
            running=dict(each.running),
        )
        for (start, queue, kind, state), each in sorted(found.items(), key=lambda item: item[0])
    ]
