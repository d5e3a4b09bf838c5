"""`jobq status`, `jobq stats` and `jobq top`: what goes on in the queues."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import click
from msgspec import Struct

from jobq_client.commands.output import count, duration, moment
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_core.activity import STEPS, ActivityPoint, added_per_step, ended_per_step, read_activity
from jobq_core.states import JobState

RATED_STEPS: Final = 5
"""The number of whole minutes that rates are taken over."""
COLUMNS: Final = (
    "queue",
    "pending",
    "running",
    "scheduled",
    "blocked",
    "disabled",
    "oldest",
    "in/min",
    "out/min",
    "failures",
    "p95 wait",
    "p95 run",
    "workers",
    "busy",
)
STEP_COLUMNS: Final = (
    *("time", "queue", "in", "completed", "failed", "aborted", "pending"),
    *("wait p50", "wait p95", "wait p99", "run p50", "run p95", "run p99"),
)
SPANS: Final = {"hour": (3_600.0, 60), "day": (86_400.0, 600), "week": (604_800.0, 3_600)}
"""The spans of `jobq stats` in seconds, and their steps."""


class QueueStatus(Struct, frozen=True, kw_only=True):
    """What `jobq status` shows of a queue.

    jobs: by state. oldest_seconds: the age of the oldest PENDING job. counted_at: when the jobs were counted.
    added_per_minute, ended_per_minute: over the last five whole minutes; None where nothing was sampled.
    failed_share: of the jobs that completed or failed in these minutes; None without any.
    waiting_p95, running_p95: seconds, of the jobs that ended in these minutes.
    workers, slots, busy: of the live workers that serve it.
    """

    queue: str
    jobs: Mapping[JobState, int]
    oldest_seconds: float | None
    counted_at: datetime | None
    paused_since: datetime | None
    added_per_minute: float | None
    ended_per_minute: float
    failed_share: float | None
    waiting_p95: float | None
    running_p95: float | None
    workers: int
    slots: int
    busy: int


async def read_status(operator: Operator, queue: str | None = None) -> list[QueueStatus]:
    """Return the status of each queue that has jobs, had some in the last minutes, is paused, or has a worker."""
    storage = operator.storage
    now = await storage.now()
    depths = await storage.depths(queue)
    paused = {record.name: record.paused_at for record in await storage.queues() if record.paused_at is not None}
    alive = [worker for worker in await storage.workers() if worker.is_alive(now)]
    recent = await read_activity(storage, queue, span=60.0 * (RATED_STEPS + 1))
    names = {depth.queue for depth in depths} | {*paused, *recent}
    names |= {name for worker in alive for name in worker.info.queues}
    found = []
    for name in sorted(names if queue is None else {queue}):
        serving = [worker for worker in alive if name in worker.info.queues]
        own = [depth for depth in depths if depth.queue == name]
        oldest = [depth.oldest for depth in own if depth.state is JobState.PENDING and depth.oldest is not None]
        found.append(
            QueueStatus(
                queue=name,
                jobs={state: sum(d.jobs for d in own if d.state is state) for state in JobState},
                oldest_seconds=max((now - min(oldest)).total_seconds(), 0.0) if oldest else None,
                counted_at=min((depth.at for depth in own), default=None),
                paused_since=paused.get(name),
                workers=len(serving),
                slots=sum(worker.slots for worker in serving),
                busy=sum(worker.stats.running for worker in serving),
                **_rates(recent.get(name, [])[:-1][-RATED_STEPS:]),
            )
        )
    return found


def _rates(points: Sequence[ActivityPoint]) -> dict[str, Any]:
    """Return the rates over whole minutes."""
    failed = sum(point.failed for point in points)
    ran = failed + sum(point.completed for point in points)
    waited = [point.waiting.p95 for point in points if point.waiting.p95 is not None]
    lasted = [point.running.p95 for point in points if point.running.p95 is not None]
    return {
        "added_per_minute": added_per_step(points),
        "ended_per_minute": ended_per_step(points),
        "failed_share": failed / ran if ran else None,
        "waiting_p95": max(waited, default=None),
        "running_p95": max(lasted, default=None),
    }


def _row(status: QueueStatus) -> tuple[object, ...]:
    jobs = status.jobs
    return (
        status.queue + (" (paused)" if status.paused_since else ""),
        count(jobs[JobState.PENDING]),
        count(jobs[JobState.PROCESSING]),
        count(jobs[JobState.SCHEDULED]),
        count(jobs[JobState.BLOCKED]),
        count(jobs[JobState.DISABLED]),
        duration(status.oldest_seconds),
        _rate(status.added_per_minute),
        _rate(status.ended_per_minute),
        "-" if status.failed_share is None else f"{status.failed_share:.1%}",
        duration(status.waiting_p95),
        duration(status.running_p95),
        status.workers,
        f"{status.busy} of {status.slots}",
    )


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


async def print_status(operator: Operator, queue: str | None) -> None:
    """Print the status of the queues."""
    found = await read_status(operator, queue)
    if operator.output.as_json:
        operator.output.json(found)
        return
    operator.output.table(COLUMNS, map(_row, found), right=COLUMNS[1:])


@operator_command("status")
@click.option("--queue", metavar="NAME", help="Show only this queue.  [default: all]")
@click.option("--watch", is_flag=True, help="Print again every --interval seconds, until Ctrl-C.")
@click.option(
    "--interval", type=click.FloatRange(min=0.2), default=2.0, show_default=True, metavar="SECONDS", help="See --watch."
)
async def status(operator: Operator, queue: str | None, watch: bool, interval: float) -> ExitCode:
    """Show each queue: its jobs by state, its oldest job, the rates of the last minutes, failures and workers."""
    while True:
        if watch and not operator.output.as_json:
            click.clear()
            click.echo(f"{time.strftime('%H:%M:%S')}  every {interval:g} s")
        await print_status(operator, queue)
        if not watch:
            return ExitCode.OK
        await asyncio.sleep(interval)


@operator_command("stats")
@click.option("--queue", metavar="NAME", help="Show only this queue.  [default: all]")
@click.option("--span", type=click.Choice(list(SPANS)), default="hour", show_default=True, help="How far to look back.")
async def stats(operator: Operator, queue: str | None, span: str) -> ExitCode:
    """Show the activity over time: jobs added and ended, failures, and how long jobs waited and ran.

    An hour is shown by minute, a day by ten minutes, a week by hour; steps without jobs are left out.
    """
    seconds, step = SPANS[span]
    assert step in STEPS
    found = await read_activity(operator.storage, queue, span=seconds, step=step)
    if operator.output.as_json:
        operator.output.json(found)
        return ExitCode.OK
    rows: list[tuple[Any, ...]] = [
        (moment(point.at)[:-3], name, *_points(point))
        for name, points in found.items()
        for point in points
        if point.added or point.ended or point.pending
    ]
    rows.sort(key=lambda row: row[:2])
    operator.output.table(STEP_COLUMNS, rows, right=STEP_COLUMNS[2:])
    return ExitCode.OK


def _points(point: ActivityPoint) -> tuple[object, ...]:
    waiting, running = point.waiting, point.running
    return (
        count(point.added),
        count(point.completed),
        count(point.failed),
        count(point.aborted),
        count(point.pending),
        *map(duration, (waiting.p50, waiting.p95, waiting.p99, running.p50, running.p95, running.p99)),
    )
