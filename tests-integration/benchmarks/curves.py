"""Curves of jobq's rate: each scenario varies one quantity that grows with a team."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plan import SHARED, Scale, Scenario, Variant

DRAINED = 40_000
"""Number of jobs that are drained from a longer backlog."""
MOST_ASKED = 20_000
"""Maximum number of jobs whose results are waited for."""


def curves(scale: Scale) -> list[Scenario]:
    """Return the curves; at scales without curves, the second point of each."""
    jobs = min(scale.jobs, DRAINED)

    def points(*all_points: int) -> Sequence[int]:
        return all_points if scale.curves else all_points[1:2]

    return [
        _curve(
            "concurrency",
            "Drain no-op jobs, by the concurrency of one worker",
            [_at(n, jobs=jobs, settings={"concurrency": n}) for n in points(1, 3, 10, 30, 100, 300, 1_000)],
            storages=SHARED,
        ),
        _curve(
            "concurrency-10ms",
            "Drain jobs that wait for 10 ms, by the concurrency of one worker",
            [
                # Jobs for one second, without any other cost.
                _at(n, jobs=min(jobs, 100 * n), sleep=0.01, settings={"concurrency": n})
                for n in points(1, 3, 10, 30, 100, 300, 1_000)
            ],
            storages=SHARED,
        ),
        _curve(
            "processes",
            "Drain no-op jobs, by the number of worker processes",
            [_at(n, jobs=jobs * 2, workers=n) for n in points(1, 2, 4, 8)],
        ),
        _curve(
            "queues",
            "Drain no-op jobs, by the number of queues",
            [_at(n, jobs=jobs, settings={"queues": n}) for n in points(1, 3, 10, 30, 100)],
        ),
        _curve(
            "live",
            f"Drain the first {jobs:,} no-op jobs of a backlog, by its length",
            [_at(n, jobs=min(n, jobs), behind=max(n - jobs, 0)) for n in points(1_000, 10_000, 100_000, 1_000_000)],
        ),
        _curve(
            "finished",
            "Drain no-op jobs, by the number of finished jobs that are kept",
            [_at(n, jobs=jobs, finished=n) for n in points(1_000, 10_000, 100_000, 1_000_000, 10_000_000)],
        ),
        _curve(
            "waiters",
            "Add a job and wait for its result, by how many callers of one process do so at once",
            [
                _at(n, jobs=min(max(2 * n, 100 * n if scale.curves else 0), MOST_ASKED), callers=n)
                for n in points(1, 10, 100, 1_000, 10_000)
            ],
            measure="ask",
        ),
        _curve(
            "servers",
            "Drain no-op jobs with two worker processes, by the number of database servers",
            [_at(n, jobs=jobs * 2, workers=2) for n in points(1, 2)],
            measure="spread",
        ),
        Scenario(
            name="by-idle",
            title="Transactions of idle worker processes, by their number",
            measure="crowd",
            unit="transactions/s",
            storages=("postgresql",),
            less=True,
            needs=("work", "submit"),
            ours_only=True,
            variants=[_at(n, workers=n, seconds=min(scale.idle_seconds, 10.0)) for n in points(1, 4, 16)],
        ),
        Scenario(
            name="retention",
            title=f"Delete {scale.finished:,} finished jobs that retention no longer keeps",
            measure="retire",
            unit="jobs/s",
            storages=("postgresql",),
            ours_only=True,
            variants=[Variant(finished=scale.finished)],
        ),
    ]


def _curve(
    name: str,
    title: str,
    variants: Sequence[Variant],
    measure: str = "drain",
    storages: Sequence[str] = ("postgresql",),
) -> Scenario:
    return Scenario(
        name=f"by-{name}",
        title=title,
        measure=measure,
        unit="jobs/s",
        storages=storages,
        needs=("work", "ask", "submit") if measure == "ask" else ("fill", "work"),
        ours_only=True,
        variants=variants,
    )


def _at(n: int, **options: Any) -> Variant:
    return Variant(name=f"{n:,}", x=n, **options)
