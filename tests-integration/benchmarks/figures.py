"""The figures of one measurement of one contestant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs


def percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """Return p50, p95 and p99 in milliseconds; None without values."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    return {f"p{p}": round(ordered[min(len(ordered) - 1, len(ordered) * p // 100)] * 1000, 3) for p in (50, 95, 99)}


@attrs.frozen
class Figures:
    """The figures of a round.

    value: the compared figure, in the scenario's unit. jobs: the number of measured jobs. asked: the number of
    requested jobs. latency: percentiles in ms. worker_cpu, client_cpu, server_cpu: processor µs per job. commits, wal:
    per job, wal in bytes. dead_rows: at the end. more: additional figures of this kind of measurement.
    """

    value: float | None
    jobs: int
    asked: int
    latency: dict[str, float] | None = None
    worker_cpu: float | None = None
    client_cpu: float | None = None
    server_cpu: float | None = None
    commits: float | None = None
    wal: float | None = None
    dead_rows: int | None = None
    note: str = ""
    more: dict[str, Any] = attrs.field(factory=dict)

    @property
    def finished(self) -> bool:
        """Whether every requested job was done."""
        return self.jobs >= self.asked

    def as_json(self) -> dict[str, Any]:
        """Return the figures for the results file."""
        found = {name: value for name, value in attrs.asdict(self).items() if value not in (None, "", {})}
        return {**found, "finished": self.finished}


def per_job(amount: float | None, jobs: int, factor: float = 1.0) -> float | None:
    """Return the figure per job, rounded to three significant digits."""
    return None if amount is None or not jobs else round(amount * factor / jobs, 3)
