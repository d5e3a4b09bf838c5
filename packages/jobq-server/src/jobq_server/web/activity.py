"""What the overview shows: of each queue what waits, runs and ended, and the same over an hour, a day or a week."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import attrs

from jobq_core.activity import (
    ActivityPoint,
    Percentiles,
    activity,
    added_per_step,
    ended_per_step,
    first_step,
    percentiles,
    read_steps,
)
from jobq_core.doctor import Facts, judge
from jobq_core.records import WorkerRecord
from jobq_core.states import JobState
from jobq_core.storage import Depth, DepthPoint, Finding, QueueRecord, QueueStorage, StatisticsRecord

RATE_MINUTES: Final = 5
"""Whole minutes that the rates are a mean of."""


@attrs.frozen
class Span:
    """A length of time that charts show. seconds, step: in seconds. per: a step in words. every: seconds between two
    times at the axis."""

    name: str
    label: str
    seconds: int
    step: int
    per: str
    every: int


SPANS: Final = {
    span.name: span
    for span in (
        Span("hour", "Hour", 3_600, 60, "minute", 600),
        Span("day", "Day", 86_400, 600, "10 minutes", 4 * 3_600),
        Span("week", "Week", 7 * 86_400, 3_600, "hour", 86_400),
    )
}


@attrs.frozen(kw_only=True)
class Ended:
    """Jobs that ended in a length of time."""

    completed: int
    failed: int
    aborted: int
    waiting: Percentiles
    running: Percentiles

    @property
    def all(self) -> int:
        """Their number."""
        return self.completed + self.failed + self.aborted

    @property
    def failed_share(self) -> float | None:
        """The share of those that ran to an end that failed; None without any."""
        ran = self.completed + self.failed
        return self.failed / ran if ran else None


@attrs.frozen(kw_only=True)
class QueueRow:
    """One queue, as the overview lists it.

    jobs: by state. oldest_seconds: the age of the oldest PENDING job. counted_at: when the jobs were counted. points:
    the last hour, by minute, without durations. ended: in that hour. workers, slots, busy: of the live workers that
    serve it.
    """

    name: str
    jobs: Mapping[JobState, int]
    oldest_seconds: float | None
    counted_at: datetime | None
    points: Sequence[ActivityPoint]
    ended: Ended
    record: QueueRecord | None
    workers: int
    slots: int
    busy: int

    def count(self, state: JobState) -> int:
        """Return the number of jobs in a state."""
        return self.jobs.get(state, 0)

    @property
    def is_paused(self) -> bool:
        """Whether workers claim nothing from it."""
        return self.record is not None and self.record.paused_at is not None

    @property
    def added_per_minute(self) -> float | None:
        """Jobs that are added, a minute; None where no samples say so."""
        return added_per_step(self._recent)

    @property
    def ended_per_minute(self) -> float:
        """Jobs that end, a minute."""
        return ended_per_step(self._recent)

    @property
    def trend(self) -> list[int]:
        """Jobs that ended, by whole minute of the hour."""
        return [point.ended for point in self.points[:-1]]

    @property
    def _recent(self) -> Sequence[ActivityPoint]:
        return self.points[:-1][-RATE_MINUTES:]


@attrs.frozen(kw_only=True)
class Overview:
    """What is known of all queues and workers now. findings: what is wrong, as far as these facts show it."""

    now: datetime
    queues: Sequence[QueueRow]
    workers: Sequence[WorkerRecord]
    findings: Sequence[Finding]

    @property
    def alive(self) -> list[WorkerRecord]:
        """The workers whose heartbeat has not expired."""
        return [worker for worker in self.workers if worker.is_alive(self.now)]


async def read_overview(storage: QueueStorage) -> Overview:
    """Read what the overview shows, at a cost that does not grow with the jobs."""
    now = await storage.now()
    depths = await storage.depths()
    workers = await storage.workers()
    records = await storage.queues()
    hour = SPANS["hour"]
    statistics, samples = await read_steps(storage, until=now, span=hour.seconds, step=hour.step)
    operations = await storage.operations(limit=20)
    facts = Facts(
        now=now,
        here=now,
        depths=depths,
        workers=workers,
        queues=records,
        statistics=statistics,
        operations=operations,
    )
    return Overview(
        now=now,
        queues=make_rows(depths, workers, records, statistics, samples, now),
        workers=workers,
        findings=sorted(judge(facts), key=lambda finding: finding.severity.value),
    )


async def read_points(storage: QueueStorage, span: Span, now: datetime, queue: str | None) -> list[ActivityPoint]:
    """Return the points of a queue, or of all queues together, oldest first."""
    statistics, samples = await read_steps(storage, queue, until=now, span=span.seconds, step=span.step, together=True)
    points = activity(statistics, samples, since=since_of(span, now), until=now, step=span.step)
    return points.get("") or empty_points(span, now)


def make_rows(
    depths: Iterable[Depth],
    workers: Iterable[WorkerRecord],
    records: Iterable[QueueRecord],
    statistics: Sequence[StatisticsRecord],
    samples: Sequence[DepthPoint],
    now: datetime,
) -> list[QueueRow]:
    """Return the queues that have jobs, had some in the last hour, are set up, or have a live worker, by name."""
    hour = SPANS["hour"]
    points = activity(statistics, samples, since=since_of(hour, now), until=now, step=hour.step, durations=False)
    by_name = {record.name: record for record in records}
    alive = [worker for worker in workers if worker.is_alive(now)]
    counted: dict[str, list[Depth]] = {}
    for depth in depths:
        counted.setdefault(depth.queue, []).append(depth)
    rows = []
    for name in sorted({*points, *by_name, *counted, *(queue for worker in alive for queue in worker.info.queues)}):
        own = counted.get(name, [])
        serving = [worker for worker in alive if name in worker.info.queues]
        oldest = [each.oldest for each in own if each.state is JobState.PENDING and each.oldest is not None]
        rows.append(
            QueueRow(
                name=name,
                jobs={each.state: each.jobs for each in own},
                oldest_seconds=max((now - min(oldest)).total_seconds(), 0.0) if oldest else None,
                counted_at=min((each.at for each in own), default=None),
                points=points.get(name) or empty_points(hour, now),
                ended=sum_up(record for record in statistics if record.queue == name),
                record=by_name.get(name),
                workers=len(serving),
                slots=sum(worker.slots for worker in serving),
                busy=sum(worker.stats.running for worker in serving),
            )
        )
    return rows


def sum_up(statistics: Iterable[StatisticsRecord]) -> Ended:
    """Return the sums of statistics."""
    records = list(statistics)
    counts: Counter[JobState] = Counter()
    for record in records:
        counts[record.state] += record.jobs
    return Ended(
        completed=counts[JobState.COMPLETED],
        failed=counts[JobState.FAILED],
        aborted=counts[JobState.ABORTED],
        waiting=percentiles(record.waiting for record in records),
        running=percentiles(record.running for record in records),
    )


def empty_points(span: Span, now: datetime) -> list[ActivityPoint]:
    """Return the points of a span in which nothing happened."""
    nothing = DepthPoint(at=now, queue="", state=JobState.PENDING, jobs=0, oldest_seconds=None)
    return activity([], [nothing], since=since_of(span, now), until=now, step=span.step)[""]


def since_of(span: Span, now: datetime) -> datetime:
    """Return the start of the first step of a span."""
    return first_step(now, span.seconds, span.step)
