"""What the overview shows: of each queue what waits, runs and ended, and the same over an hour, a day or a week."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import attrs

from jobq_core.errors import ConfigurationError
from jobq_core.records import WorkerRecord
from jobq_core.states import FINISHED, JobState
from jobq_core.storage import Depth, DepthPoint, QueueRecord, QueueStorage, StatisticsRecord, quantile

RATE_MINUTES: Final = 5
"""Minutes that the rates are a mean of."""


@attrs.frozen
class Span:
    """A length of time that charts show. step: seconds."""

    name: str
    label: str
    seconds: int
    step: int


SPANS: Final = {
    span.name: span
    for span in (
        Span("hour", "Hour", 3_600, 60),
        Span("day", "Day", 86_400, 600),
        Span("week", "Week", 7 * 86_400, 3_600),
    )
}


@attrs.define
class Step:
    """What happened in one step of time, in one queue or in all.

    depth: jobs that waited at its end; None where no sample is kept. added: None where that cannot be known.
    """

    at: datetime
    completed: int = 0
    failed: int = 0
    aborted: int = 0
    depth: int | None = None
    added: int | None = None
    waiting: dict[int, int] = attrs.field(factory=dict)
    running: dict[int, int] = attrs.field(factory=dict)

    @property
    def ended(self) -> int:
        """Jobs that ended."""
        return self.completed + self.failed + self.aborted

    def count(self, record: StatisticsRecord) -> None:
        """Add what ended in one state."""
        setattr(self, record.state.value, getattr(self, record.state.value) + record.jobs)
        _merge(self.waiting, record.waiting)
        _merge(self.running, record.running)

    waiting_p50 = property(lambda self: quantile(self.waiting, 0.5))
    waiting_p95 = property(lambda self: quantile(self.waiting, 0.95))
    waiting_p99 = property(lambda self: quantile(self.waiting, 0.99))
    running_p50 = property(lambda self: quantile(self.running, 0.5))
    running_p95 = property(lambda self: quantile(self.running, 0.95))
    running_p99 = property(lambda self: quantile(self.running, 0.99))


def _merge(into: dict[int, int], histogram: Mapping[int, int]) -> None:
    for bucket, count in histogram.items():
        into[bucket] = into.get(bucket, 0) + count


@attrs.define
class QueueRow:
    """One queue, as the overview lists it.

    oldest: since when the job that is longest PENDING is so. steps: the last hour, by minute. workers: the live ones
    that serve it.
    """

    name: str
    jobs: dict[JobState, int] = attrs.field(factory=dict)
    oldest: datetime | None = None
    steps: list[Step] = attrs.field(factory=list)
    record: QueueRecord | None = None
    workers: int = 0

    @property
    def total(self) -> Step:
        """The sums of the hour."""
        return total_of(self.steps)

    @property
    def failure_share(self) -> float | None:
        """The share of the jobs that ended in the hour that failed."""
        total = self.total
        return total.failed / total.ended if total.ended else None

    @property
    def out_per_minute(self) -> float:
        """Jobs that end, a minute."""
        last = self.steps[-RATE_MINUTES - 1 : -1]
        return sum(step.ended for step in last) / max(len(last), 1)

    @property
    def in_per_minute(self) -> float | None:
        """Jobs that are added, a minute; None where that cannot be known."""
        last = [step.added for step in self.steps[-RATE_MINUTES - 1 : -1]]
        known = [added for added in last if added is not None]
        return sum(known) / len(known) if known else None

    @property
    def trend(self) -> list[int]:
        """Jobs that ended, by minute."""
        return [step.ended for step in self.steps[:-1]]

    def count(self, state: JobState) -> int:
        """Return the number of jobs in a state."""
        return self.jobs.get(state, 0)


def total_of(steps: Iterable[Step]) -> Step:
    """Return the sums of steps."""
    total = Step(datetime.now(UTC))
    for step in steps:
        total.completed += step.completed
        total.failed += step.failed
        total.aborted += step.aborted
        _merge(total.waiting, step.waiting)
        _merge(total.running, step.running)
    return total


async def read_queues(storage: QueueStorage, workers: Sequence[WorkerRecord], now: datetime) -> list[QueueRow]:
    """Return all queues, by name."""
    rows: dict[str, QueueRow] = {}
    for depth in await read_depths(storage):
        row = rows.setdefault(depth.queue, QueueRow(depth.queue))
        row.jobs[depth.state] = depth.jobs
        if depth.state is JobState.PENDING:
            row.oldest = depth.oldest
    for record in await storage.queues():
        rows.setdefault(record.name, QueueRow(record.name)).record = record
    by_queue = await read_steps(storage, SPANS["hour"], now)
    for name, steps in by_queue.items():
        rows.setdefault(name, QueueRow(name)).steps = steps
    for worker in workers:
        for name in worker.info.queues if worker.expires_at > now else ():
            rows.setdefault(name, QueueRow(name)).workers += 1
    for row in rows.values():
        row.steps = row.steps or empty_steps(SPANS["hour"], now)
    return [rows[name] for name in sorted(rows)]


async def read_depths(storage: QueueStorage) -> list[Depth]:
    """Return the depths, or the counts of a storage that has no depths."""
    try:
        return await storage.depths()
    except ConfigurationError:
        at = await storage.now()
        counts = await storage.counts()
        return [
            Depth(queue=queue, state=state, jobs=jobs, oldest=None, at=at)
            for queue, states in counts.items()
            for state, jobs in states.items()
            if jobs
        ]


async def read_steps(
    storage: QueueStorage, span: Span, now: datetime, queue: str | None = None
) -> dict[str, list[Step]]:
    """Return the steps of a span, by queue, oldest first."""
    since = _first_step(span, now)
    records = await storage.statistics(queue, since=since, step=span.step)
    try:
        points = await storage.depth_history(queue, since=since, step=span.step)
    except ConfigurationError:
        points = []
    return steps_of(records, points, span, now)


def steps_of(
    records: Iterable[StatisticsRecord], points: Iterable[DepthPoint], span: Span, now: datetime
) -> dict[str, list[Step]]:
    """Return the steps of a span, by queue, oldest first."""
    found: defaultdict[str, dict[datetime, Step]] = defaultdict(
        lambda: {step.at: step for step in empty_steps(span, now)}
    )
    for record in records:
        if (step := found[record.queue].get(record.minute)) is not None:
            step.count(record)
    for point in points:
        if (step := found[point.queue].get(point.at)) is not None and point.state not in FINISHED:
            step.depth = (step.depth or 0) + point.jobs
    steps = {queue: list(by_time.values()) for queue, by_time in found.items()}
    for each in steps.values():
        _find_added(each)
    return steps


def _find_added(steps: list[Step]) -> None:
    """Set what was added in each step: what the depth grew by, and what ended."""
    for before, step in pairwise(steps):
        if before.depth is not None and step.depth is not None:
            step.added = max(step.depth - before.depth + step.ended, 0)


def sum_steps(by_queue: Mapping[str, Sequence[Step]], span: Span, now: datetime) -> list[Step]:
    """Return the sums of all queues, by step."""
    summed = empty_steps(span, now)
    for steps in by_queue.values():
        for into, step in zip(summed, steps, strict=True):
            into.completed += step.completed
            into.failed += step.failed
            into.aborted += step.aborted
            _merge(into.waiting, step.waiting)
            _merge(into.running, step.running)
            if step.depth is not None:
                into.depth = (into.depth or 0) + step.depth
            if step.added is not None:
                into.added = (into.added or 0) + step.added
    return summed


def empty_steps(span: Span, now: datetime) -> list[Step]:
    """Return the steps of a span, up to the present one, without anything in them."""
    first = _first_step(span, now)
    return [Step(first + timedelta(seconds=span.step * index)) for index in range(span.seconds // span.step + 1)]


def _first_step(span: Span, now: datetime) -> datetime:
    last = int(now.timestamp()) // span.step * span.step
    return datetime.fromtimestamp(last - span.seconds, UTC)
