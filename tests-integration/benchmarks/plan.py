"""The measured scenarios and their variants, as values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

EVERYWHERE = ("postgresql", "sqlite", "memory")
SHARED = ("postgresql", "sqlite")


@attrs.frozen(kw_only=True)
class Scale:
    """The sizes of the scenarios. time_limit: maximum seconds of each request to a contestant."""

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
    reads: int
    curves: bool
    time_limit: float
    last_variant_only: bool = False


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
        reads=1,
        curves=False,
        time_limit=30,
        last_variant_only=True,
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
        reads=20,
        curves=False,
        time_limit=90,
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
        reads=50,
        curves=True,
        time_limit=180,
    ),
}


@attrs.frozen(kw_only=True)
class Variant:
    """A variant of a scenario. Fields that are 0 or empty have no effect.

    jobs: number of measured jobs. workers: number of processes. callers: concurrent callers of one process. payload:
    bytes in each job. sleep: seconds in each handler. behind: additional due jobs that are not measured; oldest:
    whether they are older than the finished ones. finished, future: existing finished and scheduled jobs; higher: with
    a higher priority than the measured ones. at_once: measure right after filling. pinned: the transaction that holds
    a snapshot, 'reads' or 'writes'. seconds, rate: duration and jobs a second. settings: for the contestant. x: the
    position on a curve.
    """

    name: str = ""
    jobs: int = 0
    workers: int = 1
    callers: int = 1
    payload: int = 0
    sleep: float = 0.0
    behind: int = 0
    oldest: bool = False
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
    """A table and plot. measure: the kind of measurement. less: whether less is better. needs: verbs.

    ours_only: whether only jobq takes part.
    """

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
    from curves import curves  # builds the curves from the values above

    scenarios = [*_basic(scale), *_burdened(scale), *_read(scale), *_by_job(scale), *curves(scale)]
    if scale.last_variant_only:
        return [attrs.evolve(scenario, variants=scenario.variants[-1:]) for scenario in scenarios]
    return scenarios


def _basic(scale: Scale) -> list[Scenario]:
    return [
        Scenario(
            name="drain",
            title="Drain a backlog of no-op jobs with one worker process",
            measure="drain",
            unit="jobs/s",
            needs=("fill", "work"),
            variants=[Variant(jobs=scale.jobs)],
        ),
        Scenario(
            name="drain-2",
            title="Drain a backlog of no-op jobs with two worker processes",
            measure="drain",
            unit="jobs/s",
            needs=("fill", "work"),
            storages=SHARED,
            variants=[Variant(jobs=scale.jobs * 2, workers=2)],
        ),
        Scenario(
            name="add",
            title="Add jobs one after another",
            measure="add",
            unit="jobs/s",
            needs=("add",),
            variants=[Variant(jobs=scale.adds)],
        ),
        Scenario(
            name="group",
            title="Add jobs from 50 concurrent callers in one process, each acknowledged",
            measure="group",
            unit="jobs/s",
            needs=("group",),
            variants=[Variant(jobs=scale.adds * 10, callers=50)],
        ),
        Scenario(
            name="many",
            title="Add jobs in bulk, 1,000 a call",
            measure="many",
            unit="jobs/s",
            needs=("many",),
            variants=[Variant(jobs=scale.bulk)],
        ),
        Scenario(
            name="pick-up",
            title="Pick-up by an idle worker, from the call that adds to the handler",
            measure="pick_up",
            unit="ms, p50",
            less=True,
            needs=("work", "submit"),
            variants=[Variant(jobs=scale.pick_ups)],
        ),
        Scenario(
            name="ask",
            title="Add a job and wait for its result, 100 callers at once",
            measure="ask",
            unit="jobs/s",
            needs=("work", "ask", "submit"),
            variants=[Variant(jobs=scale.adds * 2, callers=100)],
        ),
        Scenario(
            name="together",
            title="Add from 50 callers while one worker process drains",
            measure="together",
            unit="jobs/s",
            storages=SHARED,
            needs=("work", "group", "submit"),
            variants=[Variant(jobs=scale.jobs, callers=50)],
        ),
        Scenario(
            name="idle",
            title="An idle worker's processor time",
            measure="idle",
            unit="% of a core",
            less=True,
            storages=SHARED,
            needs=("work", "submit"),
            variants=[Variant(seconds=scale.idle_seconds)],
        ),
        Scenario(
            name="start",
            title="Import the client and its storage",
            measure="start",
            unit="ms",
            less=True,
            storages=SHARED,
            needs=("start",),
            variants=[Variant(jobs=scale.starts)],
        ),
    ]


def _burdened(scale: Scale) -> list[Scenario]:
    jobs, future = scale.jobs, scale.future
    steady = {"seconds": scale.pinned_seconds, "rate": scale.pinned_rate}
    return [
        Scenario(
            name="history",
            title="Drain with finished and future jobs in the tables",
            measure="drain",
            unit="jobs/s",
            storages=SHARED,
            needs=("fill", "work"),
            variants=[
                Variant(name="clean", jobs=jobs),
                Variant(name=f"{scale.finished:,} finished", jobs=jobs, finished=scale.finished),
                Variant(name=f"{future:,} future", jobs=jobs, future=future),
                Variant(name=f"{future:,} future, higher priority", jobs=jobs, future=future, higher=True),
            ],
        ),
        Scenario(
            name="after-bulk",
            title=f"Drain {scale.after_bulk:,} jobs, after a pause and right after adding them",
            measure="drain",
            unit="jobs/s",
            storages=SHARED,
            needs=("fill", "work"),
            variants=[
                Variant(name="calm", jobs=scale.after_bulk),
                Variant(name="right after", jobs=scale.after_bulk, at_once=True),
            ],
        ),
        Scenario(
            name="pinned",
            title=f"Pick-up at a steady {scale.pinned_rate:,} jobs/s under a pinned snapshot",
            measure="pinned",
            unit="ms, p99",
            less=True,
            storages=("postgresql",),
            needs=("work", "many", "submit"),
            variants=[
                Variant(name="no snapshot", **steady),
                Variant(name="a reader's", pinned="reads", **steady),
                Variant(name="a writer's", pinned="writes", **steady),
            ],
        ),
    ]


def _read(scale: Scale) -> list[Scenario]:
    jobs = {"jobs": scale.reads, "finished": scale.finished, "behind": scale.finished // 10}
    return [
        Scenario(
            name="pages",
            title=f"Read what operators' pages show, of {scale.finished:,} finished jobs (PostgreSQL: ten times that) "
            "and a tenth of that waiting",
            measure="read_pages",
            unit="ms, p95 of the slowest read",
            less=True,
            storages=SHARED,
            needs=("work",),
            ours_only=True,
            variants=[
                Variant(name="waiting ones newest", **jobs),
                Variant(name="waiting ones oldest", oldest=True, **jobs),
            ],
        ),
    ]


def _by_job(scale: Scale) -> list[Scenario]:
    return [
        Scenario(
            name="payload",
            title="Drain jobs by the size of their arguments",
            measure="drain",
            unit="jobs/s",
            needs=("fill", "work"),
            variants=[
                Variant(name="100 B", jobs=scale.jobs, payload=100),
                Variant(name="2 KB", jobs=scale.jobs, payload=2_000),
                Variant(name="20 KB", jobs=scale.jobs, payload=20_000),
                Variant(name=f"20 KB, {scale.jobs // 5:,} jobs", jobs=scale.jobs // 5, payload=20_000),
            ],
        ),
        Scenario(
            name="sleeping",
            title="Drain jobs that wait",
            measure="drain",
            unit="jobs/s",
            needs=("fill", "work"),
            variants=[
                Variant(name="1 ms", jobs=scale.sleeping * 2, sleep=0.001),
                Variant(name="10 ms", jobs=scale.sleeping, sleep=0.01),
            ],
        ),
    ]
