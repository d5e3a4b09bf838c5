"""How numbers, times and states are written: filters of the templates."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

from jobq_core.records import JobSummary
from jobq_core.states import JobState

_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def duration(seconds: float | None) -> str:
    """Return a length of time in two units at most: '3 d 4 h', '12 min', '1.5 s', '40 ms'; '–' for None."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.0005:
        return "0 s"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    if seconds < 60:
        return f"{seconds:.0f} s"
    for index, (length, unit) in enumerate(_UNITS):
        if seconds >= length:
            whole = int(seconds // length)
            below, below_unit = _UNITS[index + 1] if index + 1 < len(_UNITS) else (1.0, "s")
            rest = int(seconds % length // below)
            return f"{whole:,} {unit} {rest} {below_unit}" if rest and whole < 10 else f"{whole:,} {unit}"
    raise AssertionError(seconds)


def brief(seconds: float | None) -> str:
    """Return a length of time in one unit: '40 ms', '8.7 min', '17 min'; '–' for None."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    for length, unit in (*_UNITS, (1.0, "s")):
        if seconds >= length:
            value = seconds / length
            return f"{value:.1f} {unit}".replace(".0 ", " ") if value < 9.95 else f"{value:,.0f} {unit}"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.0005 else "0"


def number(value: float | None) -> str:
    """Return a number with separators, exactly; one with decimals in three digits; '–' for None."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if not value:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"


def compact(value: float | None) -> str:
    """Return a number in at most four characters and a unit: '12.3k', '4.5M'; '–' for None."""
    if value is None:
        return "–"
    if abs(value) < 10_000:
        return number(value)
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}"
    raise AssertionError(value)


def bytes_text(value: float) -> str:
    """Return a number of bytes: '12 KiB', '3.4 MiB'."""
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} B"


def percent(share: float | None) -> str:
    """Return a share of 0 to 1 as a percentage; '–' for None."""
    if share is None:
        return "–"
    return f"{share * 100:.2g} %" if 0 < share < 0.1 else f"{share * 100:.0f} %"


def moment(at: datetime | None) -> str:
    """Return a moment in UTC, to the second."""
    return "–" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(at: datetime) -> str:
    """Return a moment in UTC, to the millisecond."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Return the seconds from one moment to another; None if one is not known."""
    return None if start is None or end is None else (end - start).total_seconds()


def ago(at: datetime, now: datetime) -> str:
    """Return how far a moment is from now: '3 min ago', 'in 2 h'."""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def when(job: JobSummary, now: datetime) -> str:
    """Return the time that matters in a job's state: since when it waits or runs, when it is due, how it ended."""

    def since(at: datetime | None) -> str:
        return "" if at is None else f" for {duration(max((now - at).total_seconds(), 0))}"

    state = job.state
    if state is JobState.PROCESSING:
        return f"running{since(job.started_at)}"
    if job.finished_at is not None:
        took = seconds_between(job.started_at, job.finished_at)
        ran = f", ran {duration(max(took, 0))}" if took is not None else ""
        return f"{ago(job.finished_at, now)}{ran}"
    if state is JobState.SCHEDULED and job.run_at is not None:
        return f"due {ago(job.run_at, now)}"
    return f"{state.value}{since(job.since)}"


def type_tail(name: str) -> str:
    """Return the last part of a qualified name."""
    return name.rpartition(".")[2]


def plural(count: int, noun: str) -> str:
    """Return a number and its noun: '1 job', '12,345 jobs'."""
    return f"{count:,} {noun if count == 1 else f'{noun}s'}"


STATES: Final = tuple(JobState)
FILTERS: Final[dict[str, Any]] = {
    "ago": ago,
    "brief": brief,
    "bytes_text": bytes_text,
    "clock": clock,
    "compact": compact,
    "duration": duration,
    "moment": moment,
    "number": number,
    "percent": percent,
    "plural": plural,
    "type_tail": type_tail,
    "when": when,
}
