"""What is measured: scenarios and their variants, as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

EVERYWHERE = ("postgresql", "sqlite", "memory")
SHARED = ("postgresql", "sqlite")


@attrs.frozen(kw_only=True)
class Scale:
    """How much of everything. patience: seconds that anything may take."""

    rounds: int
    jobs: int
    adds: int
    bulk: int
    pick_ups: int
    finished: int
    future: int
    after_bulk: int
    sleeping: int
    idle_seconds: float
    pinned_seconds: float
    pinned_rate: int
    starts: int
    curves: bool
    patience: float


SCALES = {
    "smoke": Scale(
        rounds=1,
        jobs=300,
        adds=50,
        bulk=2_000,
        pick_ups=10,
        finished=300,
        future=300,
        after_bulk=600,
        sleeping=100,
        idle_seconds=0.5,
        pinned_seconds=1.0,
        pinned_rate=500,
        starts=1,
        curves=False,
        patience=30,
    ),
    "quick": Scale(
        rounds=3,
        jobs=20_000,
        adds=1_000,
        bulk=100_000,
        pick_ups=200,
        finished=100_000,
        future=50_000,
        after_bulk=50_000,
        sleeping=5_000,
        idle_seconds=10,
        pinned_seconds=20,
        pinned_rate=5_000,
        starts=5,
        curves=False,
        patience=90,
    ),
    "full": Scale(
        rounds=5,
        jobs=50_000,
        adds=2_000,
        bulk=200_000,
        pick_ups=400,
        finished=1_000_000,
        future=300_000,
        after_bulk=200_000,
        sleeping=10_000,
        idle_seconds=30,
        pinned_seconds=600,
        pinned_rate=5_000,
        starts=9,
        curves=True,
        patience=180,
    ),
}


@attrs.frozen(kw_only=True)
class Variant:
    """One way to measure. What is 0 or empty does not happen.

    jobs: measured. workers: processes. callers: concurrent, of one process. payload: bytes in each job. sleep: seconds
    in each handler. finished, future: jobs that lie there; higher: with a higher priority than those measured.
    at_once: right after the filling. pinned: what holds a snapshot meanwhile, 'reads' or 'writes'. seconds, rate: how
    long, and jobs a second. settings: for the contestant. x: where on a curve.
    """

    name: str = ""
    jobs: int = 0
    workers: int = 1
    callers: int = 1
    payload: int = 0
    sleep: float = 0.0
    finished: int = 0
    future: int = 0
    higher: bool = False
    at_once: bool = False
    pinned: str = ""
    seconds: float = 0.0
    rate: int = 0
    settings: dict[str, Any] = attrs.field(factory=dict)
    x: float | None = None


@attrs.frozen(kw_only=True)
class Scenario:
    """One table and plot. measure: the kind of measurement. less: whether less is better. needs: verbs."""

    name: str
    title: str
    measure: str
    unit: str
    variants: Sequence[Variant]
    storages: Sequence[str] = EVERYWHERE
    less: bool = False
    needs: Sequence[str] = ("work",)
    ours_only: bool = False


def plan(scale: Scale) -> list[Scenario]:
    """Return all scenarios at one scale."""
    return [*_basic(scale), *_burdened(scale), *_by_job(scale), *(_curves(scale) if scale.curves else ())]


def _basic(scale: Scale) -> list[Scenario]:
    return [
        Scenario(
            name="drain",
            title="Drain a backlog of no-op jobs",
            measure="drain",
            unit="jobs/s",
            needs=("fill", "work"),
            variants=[Variant(name="1 worker process", jobs=scale.jobs)],
        ),
        Scenario(
            name="drain-2",
            title="The same with two worker processes",
            measure="drain",
            unit="jobs/s",
            needs=("fill", "work"),
            storages=SHARED,
            variants=[Variant(name="2 worker processes", jobs=scale.jobs * 2, workers=2)],
        ),
    ]


def _burdened(scale: Scale) -> list[Scenario]:
    return []


def _by_job(scale: Scale) -> list[Scenario]:
    return []


def _curves(scale: Scale) -> list[Scenario]:
    return []
