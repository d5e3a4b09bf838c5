"""`StatisticsRecord`: how many jobs ended, and how long they waited and ran, by minute, queue, kind and state."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr
from jobq_core.states import JobState

Histogram: TypeAlias = Mapping[int, int]
"""The number of durations by bucket, without the empty buckets. Histograms are merged by adding their numbers."""

LAST_BUCKET: Final = 127

STEPS: Final[Mapping[int, int]] = MappingProxyType({60: 86_400, 600: 3 * 86_400, 3600: 30 * 86_400})
"""The steps of statistics and of the history of depths, in seconds, and how many seconds each is kept."""

_STARTS: Final = [2.0 ** (n / 2) / 1000 for n in range(1, LAST_BUCKET + 1)]
"""The seconds at which each bucket but the first starts."""


def bucket_of(seconds: float) -> int:
    """Return the bucket of a duration: n for 2^(n/2) up to 2^((n+1)/2) milliseconds, 0 for shorter ones too, and
    LAST_BUCKET for longer ones."""
    return bisect(_STARTS, seconds)


def bucket_end(bucket: int) -> float:
    """Return the seconds that all durations of a bucket stay below."""
    return math.sqrt(2.0 ** (bucket + 1)) / 1000


def quantile(histogram: Histogram, share: float) -> float | None:
    """Return the seconds that this share (0 to 1) of the durations stays below, at most 1.42 times too large;
    None for an empty histogram."""
    wanted = share * sum(histogram.values())
    passed = 0
    for bucket in sorted(histogram):
        passed += histogram[bucket]
        if passed >= wanted:
            return bucket_end(bucket)
    return None


class StatisticsRecord(Struct, frozen=True, kw_only=True, gc=False):
    """The jobs of one queue and kind that ended in one step of time in one state: COMPLETED, FAILED or ABORTED.

    minute: the start of the step, a minute unless a longer one was asked for, by the storage's clock.
    jobs: their number.
    waiting_seconds, waiting: sum and histogram of the seconds from becoming PENDING to the claim of the last run.
    running_seconds, running: sum and histogram of the seconds from that claim to the end. Jobs that ended where they
        waited (aborted, expired) are in none of the sums and histograms.
    """

    minute: datetime
    queue: str
    kind: str
    state: JobState
    jobs: int
    waiting_seconds: float
    running_seconds: float
    waiting: Histogram
    running: Histogram


def check_step(step: int) -> int:
    """Return the step; raises ConfigurationError for one that is not among STEPS."""
    if step not in STEPS:
        raise ConfigurationError(f"step must be one of {', '.join(map(str, STEPS))} seconds, not {short_repr(step)}")
    return step


def merge_steps(records: Iterable[StatisticsRecord], step: int) -> list[StatisticsRecord]:
    """Return the statistics of longer steps, in seconds, summed up from those of minutes."""
    merged: dict[tuple[int, str, str, JobState], StatisticsRecord] = {}
    for record in records:
        start = int(record.minute.timestamp()) // step * step
        key = (start, record.queue, record.kind, record.state)
        before = merged.get(key)
        if before is None:
            merged[key] = replace(record, minute=datetime.fromtimestamp(start, UTC))
        else:
            merged[key] = replace(
                before,
                jobs=before.jobs + record.jobs,
                waiting_seconds=before.waiting_seconds + record.waiting_seconds,
                running_seconds=before.running_seconds + record.running_seconds,
                waiting=add_histograms((before.waiting, record.waiting)),
                running=add_histograms((before.running, record.running)),
            )
    return [merged[key] for key in sorted(merged)]


def add_histograms(histograms: Iterable[Histogram]) -> Histogram:
    """Return the sum of histograms."""
    each = iter(histograms)
    summed = dict(next(each, {}))
    for histogram in each:
        for bucket, jobs in histogram.items():
            summed[bucket] = summed.get(bucket, 0) + jobs
    return summed
