"""Statistics: how rows of sums become records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from jobq_core.states import JobState
from jobq_core.storage import ReaderStorage, StatisticsRecord
from jobq_core.storage.statistics import add_histograms, check_step, merge_steps
from jobq_storage_postgres.binary import pack_int4, pack_moment, pack_optional, pack_text
from jobq_storage_postgres.engine import Facet


class Statistics(Facet, ReaderStorage):
    """Reads the statistics of steps."""

    async def statistics(
        self,
        queue: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: int = 60,
        together: bool = False,
    ) -> list[StatisticsRecord]:
        ((data,),) = await self._engine.fetch(
            "statistics_together" if together else "statistics",
            pack_optional(pack_text, queue),
            pack_optional(pack_moment, since),
            pack_optional(pack_moment, until),
            pack_int4(check_step(step)),
        )
        if together:
            return [_to_record(row) for row in _sums_decoder.decode(data)]
        return _records(_decoder.decode(data), step)


class _Row(Struct, array_like=True, gc=False):
    """A row of `statistics`; several may belong to one record."""

    start: datetime
    queue: str
    kind: str
    state: JobState
    jobs: int
    waited: float
    ran: float
    waiting: dict[int, int]
    running: dict[int, int]


_decoder = msgspec.json.Decoder(list[_Row])


class _Sums(Struct, array_like=True, gc=False):
    """A row of `statistics_together`."""

    start: datetime
    state: JobState
    jobs: int
    waited: float
    ran: float
    waiting: list[dict[int, int]]
    running: list[dict[int, int]]


_sums_decoder = msgspec.json.Decoder(list[_Sums])


def _to_record(row: _Sums) -> StatisticsRecord:
    return StatisticsRecord(
        minute=row.start,
        queue="",
        kind="",
        state=row.state,
        jobs=row.jobs,
        waiting_seconds=row.waited,
        running_seconds=row.ran,
        waiting=add_histograms(row.waiting),
        running=add_histograms(row.running),
    )


def _records(rows: Sequence[_Row], step: int) -> list[StatisticsRecord]:
    """Return a record for each step, queue, kind and state, in this order."""
    found: dict[tuple[datetime, str, str, JobState], StatisticsRecord] = {}
    for row in rows:
        key = row.start, row.queue, row.kind, row.state
        record = StatisticsRecord(
            minute=row.start,
            queue=row.queue,
            kind=row.kind,
            state=row.state,
            jobs=row.jobs,
            waiting_seconds=row.waited,
            running_seconds=row.ran,
            waiting=row.waiting,
            running=row.running,
        )
        before = found.setdefault(key, record)
        if before is not record:
            (found[key],) = merge_steps((before, record), step)
    return [found[key] for key in sorted(found)]
