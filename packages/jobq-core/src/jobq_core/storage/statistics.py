"""`StatisticsRecord`: how many runs ended, and how long they waited and ran, by minute, queue, kind and state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Final, TypeAlias

from msgspec import Struct

from jobq_core.states import JobState

Histogram: TypeAlias = Mapping[int, int]
"""The number of durations by bucket, without the empty buckets. Histograms are merged by adding their numbers."""

LAST_BUCKET: Final = 90
"""The bucket of all durations of about a year and more."""


def bucket_of(seconds: float) -> int:
    """Return the bucket of a duration: 0 up to a millisecond, else n for durations above 2^((n-1)/2) and up to 2^(n/2)
    milliseconds, and LAST_BUCKET for all longer ones."""
    milliseconds = seconds * 1000
    return 0 if milliseconds <= 1 else min(math.ceil(2 * math.log2(milliseconds)), LAST_BUCKET)


def bucket_end(bucket: int) -> float:
    """Return the longest duration of a bucket, in seconds."""
    return math.sqrt(2.0**bucket) / 1000


def quantile(histogram: Histogram, share: float) -> float | None:
    """Return the seconds that this share (0 to 1) of the durations did not exceed, at most a factor of 1.42 too large;
    None for an empty histogram."""
    wanted = share * sum(histogram.values())
    passed = 0
    for bucket in sorted(histogram):
        passed += histogram[bucket]
        if passed >= wanted:
            return bucket_end(bucket)
    return None


class StatisticsRecord(Struct, frozen=True, kw_only=True):
    """The jobs of one queue and kind that came to a state in one minute.

    Counted are the settlements that took effect and whose attempt counts, rescued runs that count, and jobs that ended
    without a run (aborted while they waited, expired): each under the state that it led to. A retry counts as
    SCHEDULED or PENDING; jobs that are handed back, snoozed or suspended do not count.

    minute: the start of the minute, by the storage's clock.
    jobs: their number.
    waiting_seconds, waiting: sum and histogram of the seconds from becoming PENDING to the claim.
    running_seconds, running: sum and histogram of the seconds from the claim to the ending. Both sums and both
        histograms leave out jobs that ended without a run.
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
