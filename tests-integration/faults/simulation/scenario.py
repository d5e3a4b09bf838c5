"""The plan of a schedule: jobs, clients, workers and faults, drawn from the mode and the seed."""

from __future__ import annotations

from typing import Any

import attrs

from jobq_core import Backoff

from .weather import Outage
from .world import World

MODES = ("plain", "limits", "unique", "control", "retries", "stopping", "leaders")
"""plain: only faults. limits: each worker has a limiter. unique: many adds share few unique keys. control: clients
abort, disable, enable, retry and delete jobs. retries: handlers fail. stopping: workers are stopped and started again,
also during outages. leaders: many jobs are delayed, several workers compete for the maintenance."""


@attrs.frozen(kw_only=True)
class JobPlan:
    """One job. pieces: number of pauses of its handler, of `piece` seconds each. failures: number of failing attempts.
    stubborn: seconds that its handler runs on after it was told to stop. controls: (pause before it, operation)."""

    token: int
    client: int
    at: float
    options: dict[str, Any]
    pieces: int
    piece: float
    failures: int = 0
    stubborn: float = 0.0
    controls: tuple[tuple[float, str], ...] = ()


@attrs.frozen(kw_only=True)
class WorkerPlan:
    """One worker process. start: when it starts, in seconds. stops: when its worker is stopped and started again."""

    start: float
    concurrency: int
    limiter: str | None = None
    stops: tuple[tuple[float, float], ...] = ()
    """(when, timeout)"""


@attrs.frozen(kw_only=True)
class Blow:
    """A fault of one process. kind: 'hold' (pause) or 'block' it for `seconds`, or 'kill' and replace it after them."""

    at: float
    kind: str
    victim: str
    seconds: float


@attrs.frozen(kw_only=True)
class Scenario:
    """The plan of a schedule. lost_after, beat, poll: options of workers, in seconds. rough: scale of fault rates."""

    mode: str
    jobs: tuple[JobPlan, ...]
    workers: tuple[WorkerPlan, ...]
    clients: int
    blows: tuple[Blow, ...]
    outages: tuple[Outage, ...]
    rough: float
    limit: float
    lost_after: float
    beat: float
    poll: float
    patience: float
    calm_at: float


def draw_scenario(world: World, mode: str) -> Scenario:
    """Draw the plan of a schedule."""
    rng = world.random
    clients = rng.randint(1, 2)
    lost_after = rng.choice((1.5, 3.0, 6.0))
    calm_at = rng.uniform(2.0, 3.0) + lost_after
    workers = rng.randint(2, 3) if mode == "leaders" else rng.randint(1, 3)
    jobs = tuple(_draw_job(world, mode, token, clients) for token in range(rng.randint(3, 10)))
    names = [f"worker-{number}" for number in range(workers)]
    blows = [_draw_blow(world, rng.choice(names), lost_after, calm_at) for _ in range(rng.randint(0, 3))]
    if rng.random() < 0.2:
        blows.append(_draw_blow(world, f"client-{rng.randrange(clients)}", lost_after, calm_at))
    outages = []
    if mode == "stopping" or rng.random() < 0.2:
        start = rng.uniform(0.0, calm_at)
        outages.append(Outage(start, min(start + rng.uniform(0.1, 1.5 * lost_after), calm_at)))
    if rng.random() < 0.3:
        # One worker may be cut off for longer than its lease, so that the others run its jobs.
        start = rng.uniform(0.0, 2.0)
        outages.append(Outage(start, min(start + rng.uniform(0.5, 2.5) * lost_after, calm_at), rng.choice(names)))
    return Scenario(
        mode=mode,
        jobs=jobs,
        workers=tuple(_draw_worker(world, mode, calm_at) for _ in names),
        clients=clients,
        blows=tuple(blows),
        outages=tuple(outages),
        rough=rng.choice((0.0, 0.02, 0.1, 0.25)),
        limit=rng.choice((0.5, 2.0, 5.0)),
        lost_after=lost_after,
        beat=lost_after / rng.choice((2, 3, 5)),
        poll=rng.choice((0.2, 1.0)),
        patience=rng.choice((0.0, 2.0, 10.0)),
        calm_at=calm_at,
    )


def _draw_worker(world: World, mode: str, calm_at: float) -> WorkerPlan:
    rng = world.random
    stops: list[tuple[float, float]] = []
    if mode == "stopping":
        at = 0.0
        for _ in range(rng.randint(1, 2)):
            at += rng.uniform(0.1, calm_at)
            stops.append((at, rng.choice((0.0, 0.2, 5.0))))
    return WorkerPlan(
        start=rng.uniform(0.0, 0.5),
        concurrency=rng.randint(1, 4),
        limiter=rng.choice(("concurrency", "rate")) if mode == "limits" else None,
        stops=tuple(stops),
    )


def _draw_job(world: World, mode: str, token: int, clients: int) -> JobPlan:
    rng = world.random
    options: dict[str, Any] = {"max_attempts": rng.choice((1, 3, 10)), "priority": rng.choice((0, 0, 0, 5, -5))}
    if rng.random() < (0.7 if mode == "leaders" else 0.15):
        options["delay"] = rng.uniform(0.0, 3.0)
    if rng.random() < 0.1:
        options["timeout"] = rng.uniform(0.05, 1.0)
    if rng.random() < 0.1:
        options["deadline"] = rng.uniform(0.5, 5.0)
    if mode == "unique":
        options["unique"] = f"key-{rng.randrange(3)}"
    if rng.random() < 0.3:
        options["retry"] = Backoff(base=rng.choice((0.0, 0.3)), maximum=1.0)
    controls: list[tuple[float, str]] = []
    if mode == "control":
        for _ in range(rng.randint(0, 3)):
            controls.append((rng.uniform(0.0, 2.0), rng.choice(("abort", "disable", "enable", "retry", "delete"))))
    controls.sort()
    if mode == "control" and rng.random() < 0.4:
        # A client changes its mind about a running job, before or after the worker knows of the first request.
        first, then = rng.choice((("disable", "enable"), ("disable", "abort"), ("abort", "disable")))
        controls += [(rng.uniform(0.0, 0.5), first), (rng.choice((0.0, 0.01, 0.3)), then)]
    failing = mode == "retries" or rng.random() < 0.15
    return JobPlan(
        token=token,
        client=rng.randrange(clients),
        at=rng.uniform(0.0, 2.0) if rng.random() < 0.7 else 0.1,
        options=options,
        pieces=rng.randint(0, 4),
        piece=rng.choice((0.0, 0.01, 0.2, 0.8)),
        failures=rng.choice((1, 2, 99)) if failing else 0,
        stubborn=rng.choice((0.5, 3.0)) if rng.random() < 0.1 else 0.0,
        controls=tuple(controls),
    )


def _draw_blow(world: World, victim: str, lost_after: float, calm_at: float) -> Blow:
    rng = world.random
    kind = rng.choice(("hold", "hold", "block", "kill"))
    seconds = rng.choice((0.3, 0.9, 1.1, 2.0)) * lost_after * rng.uniform(0.8, 1.2)
    return Blow(at=rng.uniform(0.1, calm_at), kind=kind, victim=victim, seconds=seconds)
