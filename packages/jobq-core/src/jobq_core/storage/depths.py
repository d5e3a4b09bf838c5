"""`Depth` and `DepthPoint`: how many jobs wait and run, in queries whose cost does not grow with the jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec import Struct

from jobq_core.states import JobState

COUNTED: Final = 5_000
"""Up to this many unfinished jobs of a state, `depths` counts them; of more, it answers with the last sample."""
SAMPLE_SECONDS: Final = 15.0
"""Minimum interval between two samples of a storage with more jobs than `COUNTED`."""
SAMPLE_SHARE: Final = 50
"""A sample is due again after this many times the seconds that the last one took."""


class Depth(Struct, frozen=True, kw_only=True, gc=False):
    """The number of jobs of one queue in one state.

    oldest: since when the job that is longest in this state is in it; None for final states, and where no job is.
    at: when the jobs were counted: now, or at the last sample.
    """

    queue: str
    state: JobState
    jobs: int
    oldest: datetime | None
    at: datetime


class DepthPoint(Struct, frozen=True, kw_only=True, gc=False):
    """The number of jobs of one queue in one unfinished state at the end of a step of a history.

    at: the start of the step. oldest_seconds: how long the job that was longest in this state was in it; None without
        jobs.
    """

    at: datetime
    queue: str
    state: JobState
    jobs: int
    oldest_seconds: float | None
