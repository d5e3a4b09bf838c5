"""What went on in the queues: rates, depths and percentiles over time, for commands, charts and the autoscaler.

The storage keeps what ended, by step of time, and samples of what waits. What came in follows from both: the change of
the number of unfinished jobs, and those that ended meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

from jobq_core.states import JobState
from jobq_core.storage import DepthPoint, Histogram, QueueStorage, StatisticsRecord, quantile
from jobq_core.storage.statistics import add_histograms

STEPS: Final = (60, 600, 3_600)
"""The steps of time that storages know, in seconds."""


class Percentiles(Struct, frozen=True):
    """Seconds that 50, 95 and 99 % of the jobs stayed below; None where no job ran."""

    p50: float | None
    p95: float | None
    p99: float | None


UNKNOWN: Final = Percentiles(None, None, None)


class ActivityPoint(Struct, frozen=True, kw_only=True):
    """What went on in one queue in one step of time.

    at: the start of the step.
    added: the jobs that came in, as far as the samples of depths say; None where there is no sample.
    completed, failed, aborted: the jobs that ended so. unfinished: the jobs at the end of the step, and pending: those
        of them that were PENDING; None where there is no sample. oldest_seconds: the age of the oldest PENDING job.
    waiting, running: how long the jobs that ended had waited, and had run.
    """

    at: datetime
    added: int | None
    completed: int
    failed: int
    aborted: int
    unfinished: int | None
    pending: int | None
    oldest_seconds: float | None
    waiting: Percentiles
    running: Percentiles

    @property
    def ended(self) -> int:
        """The number of jobs that ended."""
        return self.completed + self.failed + self.aborted


async def read_activity(
    storage: QueueStorage, queue: str | None = None, *, span: float = 3_600.0, step: int = 60
) -> dict[str, list[ActivityPoint]]:
    """Return the points of each queue, oldest first, one for each step of the last `span` seconds.

    queue: of this queue (default: of all). step: one of STEPS. The last point is that of the step under way.
    """
    until = await storage.now()
    statistics, depths = await read_steps(storage, queue, until=until, span=span, step=step)
    return activity(statistics, depths, since=first_step(until, span, step), until=until, step=step)


async def read_steps(
    storage: QueueStorage,
    queue: str | None = None,
    *,
    until: datetime,
    span: float,
    step: int,
    together: bool = False,
) -> tuple[list[StatisticsRecord], list[DepthPoint]]:
    """Return what `activity` takes of the last `span` seconds before `until`.

    together: whether queues and kinds are summed up, to a queue '' (default: each queue by itself).
    """
    since = first_step(until, span, step)
    statistics = await storage.statistics(queue, since=since, until=until, step=step, together=together)
    # One step more tells how many jobs there were when the first step began.
    before = since - timedelta(seconds=step)
    depths = await storage.depth_history(queue, since=before, until=until, step=step, together=together)
    return statistics, depths


def first_step(until: datetime, span: float, step: int) -> datetime:
    """Return the start of the first of the steps of the `span` seconds before `until`."""
    return _floor(until - timedelta(seconds=span), step) + timedelta(seconds=step)


def added_per_step(points: Sequence[ActivityPoint]) -> float | None:
    """Return the mean number of jobs that came in; None where no samples say so."""
    known = [point.added for point in points if point.added is not None]
    return sum(known) / len(known) if known else None


def ended_per_step(points: Sequence[ActivityPoint]) -> float:
    """Return the mean number of jobs that ended; 0 without points."""
    return sum(point.ended for point in points) / max(len(points), 1)


def activity(
    statistics: Iterable[StatisticsRecord],
    depths: Iterable[DepthPoint],
    *,
    since: datetime,
    until: datetime,
    step: int,
    durations: bool = True,
) -> dict[str, list[ActivityPoint]]:
    """Return the points of each queue that occurs, from what a storage keeps.

    durations: whether the percentiles are worked out (default True); else they are None.
    """
    ended: dict[tuple[str, datetime], list[StatisticsRecord]] = {}
    for record in statistics:
        ended.setdefault((record.queue, record.minute), []).append(record)
    sampled: dict[tuple[str, datetime], list[DepthPoint]] = {}
    for point in depths:
        sampled.setdefault((point.queue, point.at), []).append(point)
    starts = _starts(since, until, step)
    moments = [_floor(since, step) - timedelta(seconds=step), *starts]
    all_sampled = {at for _, at in sampled}

    def samples_of(queue: str) -> list[list[DepthPoint] | None]:
        # A queue without jobs has no sample where others have one.
        return [sampled.get((queue, at), []) if at in all_sampled else None for at in moments]

    return {
        queue: _points([ended.get((queue, at), []) for at in starts], samples_of(queue), starts, durations)
        for queue in sorted({queue for queue, _ in (*ended, *sampled)})
    }


def _points(
    ended: Sequence[list[StatisticsRecord]],
    sampled: Sequence[list[DepthPoint] | None],
    starts: Sequence[datetime],
    durations: bool,
) -> list[ActivityPoint]:
    points = []
    before = _unfinished(sampled[0])
    for at, records, depths in zip(starts, ended, sampled[1:], strict=True):
        by_state: Counter[JobState] = Counter()
        for record in records:
            by_state[record.state] += record.jobs
        unfinished = _unfinished(depths)
        known = before is not None and unfinished is not None
        pending = [depth for depth in depths or () if depth.state is JobState.PENDING]
        points.append(
            ActivityPoint(
                at=at,
                added=max(unfinished - before + by_state.total(), 0) if known else None,  # type: ignore[operator]
                completed=by_state[JobState.COMPLETED],
                failed=by_state[JobState.FAILED],
                aborted=by_state[JobState.ABORTED],
                unfinished=unfinished,
                pending=None if depths is None else sum(depth.jobs for depth in pending),
                oldest_seconds=max((depth.oldest_seconds or 0.0 for depth in pending), default=None),
                waiting=percentiles(record.waiting for record in records) if durations else UNKNOWN,
                running=percentiles(record.running for record in records) if durations else UNKNOWN,
            )
        )
        before = unfinished
    return points


def percentiles(histograms: Iterable[Histogram]) -> Percentiles:
    """Return the percentiles of several histograms together."""
    merged = add_histograms(histograms)
    return Percentiles(*(quantile(merged, share) for share in (0.5, 0.95, 0.99)))


def _unfinished(depths: Sequence[DepthPoint] | None) -> int | None:
    return None if depths is None else sum(depth.jobs for depth in depths)


def _floor(moment: datetime, step: int) -> datetime:
    return datetime.fromtimestamp(int(moment.timestamp()) // step * step, UTC)


def _starts(since: datetime, until: datetime, step: int) -> list[datetime]:
    first = _floor(since, step)
    count = -((first - until) // timedelta(seconds=step))
    return [first + n * timedelta(seconds=step) for n in range(count)]
