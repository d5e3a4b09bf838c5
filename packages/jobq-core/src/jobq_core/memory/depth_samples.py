"""`DepthSamples`: how many jobs waited and ran, at the last sample and in the past."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from jobq_core.states import JobState
from jobq_core.storage import DepthPoint
from jobq_core.storage.statistics import STEPS
from jobq_core.timestamps import SECOND, to_datetime

Key: TypeAlias = tuple[str, JobState]
"""A queue and a state."""


class Counted(NamedTuple):
    """How many jobs are in a state, and since when the one that is longest in it is."""

    jobs: int
    oldest: int | None


class DepthSamples:
    """The last sample, and of the past the last one of each step.

    at: when the last sample was taken; None before the first. due_at: when the next one is, by the steady clock.
    """

    def __init__(self) -> None:
        self.last: Mapping[Key, Counted] = {}
        self.at: int | None = None
        self.due_at = 0
        self._steps: dict[int, dict[int, tuple[int, Mapping[Key, Counted]]]] = {step: {} for step in STEPS}

    def add(self, sample: Mapping[Key, Counted], now: int) -> None:
        """Keep a sample."""
        self.last, self.at = sample, now
        for step, kept in self._steps.items():
            kept[now - now % (step * SECOND)] = (now, sample)

    def prune(self, now: int) -> None:
        """Forget the steps that are kept no longer."""
        for step, seconds in STEPS.items():
            kept = self._steps[step]
            self._steps[step] = {start: kept[start] for start in kept if start > now - seconds * SECOND}

    def points(self, queue: str | None, since: int, until: int, step: int) -> list[DepthPoint]:
        """Return the points of the steps that start at `since` or later and before `until`."""
        return [
            DepthPoint(
                at=to_datetime(start),
                queue=name,
                state=state,
                jobs=counted.jobs,
                oldest_seconds=None if counted.oldest is None else max(at - counted.oldest, 0) / SECOND,
            )
            for start, (at, sample) in sorted(self._steps[step].items())
            for (name, state), counted in sorted(sample.items())
            if since <= start < until and queue in (None, name)
        ]


def add_queues(points: Iterable[DepthPoint]) -> list[DepthPoint]:
    """Return the points of all queues together."""
    summed: dict[tuple[datetime, JobState], DepthPoint] = {}
    for point in points:
        before = summed.get((point.at, point.state))
        oldest = [each.oldest_seconds for each in (before, point) if each and each.oldest_seconds is not None]
        summed[point.at, point.state] = replace(
            point,
            queue="",
            jobs=point.jobs + (before.jobs if before else 0),
            oldest_seconds=max(oldest, default=None),
        )
    return list(summed.values())
