"""What stands at the axes of a chart: round values from 0 up, and times in UTC."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import attrs

from jobq_server.web.formatting import brief, compact

INTERVALS: Final = 4
"""Intervals of a scale at most."""
DAY: Final = 86_400
DURATIONS: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200),
)
"""Round lengths of time, in seconds; above them, round numbers of days."""


@attrs.frozen
class Tick:
    """A label of an axis, and where it stands: the share of the axis before it."""

    share: float
    label: str


@attrs.frozen
class Scale:
    """The axis of the values. top: the value at its end."""

    top: float
    ticks: tuple[Tick, ...]


def count_scale(most: float) -> Scale:
    """Return a scale for numbers of jobs up to `most`."""
    return _scale(most, max(_round_up(most / INTERVALS), 1.0), lambda value: compact(round(value)))


def duration_scale(most: float) -> Scale:
    """Return a scale for lengths of time up to `most` seconds."""
    least = most / INTERVALS
    step = next((step for step in DURATIONS if step >= least), None)
    return _scale(most, _round_up(least / DAY) * DAY if step is None else step, brief)


def time_ticks(since: datetime, until: datetime, every: int) -> list[Tick]:
    """Return the times between two moments, every so many seconds; a midnight is labelled with its date or weekday."""
    start, end = since.timestamp(), until.timestamp()
    moments = range(math.ceil(start / every) * every, math.floor(end) + 1, every)
    return [Tick((moment - start) / (end - start), _time_label(moment, every)) for moment in moments]


def _time_label(moment: int, every: int) -> str:
    at = datetime.fromtimestamp(moment, UTC)
    if every >= DAY:
        return f"{at:%a}"
    return f"{at:%-d %b}" if moment % DAY == 0 else f"{at:%H:%M}"


def _scale(most: float, step: float, label: Callable[[float], str]) -> Scale:
    # A little less, so that 0.3 has three steps of 0.1.
    count = max(math.ceil(most / step - 1e-9), 1)
    return Scale(count * step, tuple(Tick(number / count, label(number * step)) for number in range(count + 1)))


def _round_up(value: float) -> float:
    """Return the least of 1, 2, 5, 10, 20, 50, … that is not below a value; 0 for 0."""
    if value <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= value)
