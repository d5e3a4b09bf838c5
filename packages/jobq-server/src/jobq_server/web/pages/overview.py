"""The overview: what needs attention, the totals, charts, and all queues."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import attrs
from markupsafe import Markup

from jobq_core.records import WorkerRecord
from jobq_core.states import JobState
from jobq_server.web.activity import SPANS, QueueRow, Span, Step, read_queues, read_steps, sum_steps, total_of
from jobq_server.web.attention import find_attention
from jobq_server.web.call import Call
from jobq_server.web.charts.svg import highest, lines, stacked_bars
from jobq_server.web.formatting import duration, number, plural
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()

ENDED: Final = (("completed", "completed"), ("aborted", "aborted"), ("failed", "failed"))
DEPTH: Final = (("depth", "pending"),)
WAITING: Final = (("waiting_p50", "p50"), ("waiting_p95", "p95"), ("waiting_p99", "p99"))
RUNNING: Final = (("running_p50", "p50"), ("running_p95", "p95"), ("running_p99", "p99"))


@attrs.frozen(kw_only=True)
class Tile:
    """A figure, and the page that it leads to. alarm: whether it is bad."""

    name: str
    value: str
    note: str
    path: str
    query: dict[str, str] = attrs.field(factory=dict)
    alarm: bool = False


@routes.get("/", access=Role.VIEW)
async def overview(call: Call) -> View:
    """Show all queues, or the charts of one of them."""
    storage = call.storage
    span = SPANS.get(call.query("span"), SPANS["hour"])
    chosen = call.query("queue") or None
    now = await storage.now()
    workers = await storage.workers()
    queues = await read_queues(storage, workers, now)
    by_queue = await read_steps(storage, span, now, chosen)
    steps = sum_steps(by_queue, span, now)
    return View(
        "overview.html",
        {
            "attention": find_attention(queues, workers, now),
            "chosen": chosen,
            "charts": make_charts(steps, span),
            "queues": queues,
            "span": span,
            "spans": SPANS.values(),
            "tiles": make_tiles(queues, workers, now),
            "total": total_of(steps),
            "storage_now": now,
        },
    )


def make_tiles(queues: Sequence[QueueRow], workers: Sequence[WorkerRecord], now: datetime) -> list[Tile]:
    """Return the figures at the top."""
    alive = [worker for worker in workers if worker.expires_at > now]
    slots = sum(worker.info.concurrency for worker in alive)
    running = sum(row.count(JobState.PROCESSING) for row in queues)
    pending = sum(row.count(JobState.PENDING) for row in queues)
    oldest = min((row.oldest for row in queues if row.oldest is not None), default=None)
    failed = sum(row.total.failed for row in queues)
    ended = sum(row.total.ended for row in queues)
    known = [row.in_per_minute for row in queues if row.in_per_minute is not None]
    return [
        Tile(
            name="Pending",
            value=number(pending),
            note="nothing waits" if oldest is None else f"oldest {duration((now - oldest).total_seconds())}",
            path="/jobs",
            query={"state": "pending"},
        ),
        Tile(
            name="Running",
            value=number(running),
            note=f"of {plural(slots, 'slot')}" if slots else "no slots",
            path="/jobs",
            query={"state": "processing"},
        ),
        Tile(
            name="Ended, a minute",
            value=number(sum(row.out_per_minute for row in queues)),
            note=f"{number(sum(known))} added" if known else f"{number(ended)} in the last hour",
            path="/",
        ),
        Tile(
            name="Failed, last hour",
            value=number(failed),
            note=f"of {number(ended)} that ended" if ended else "none ended",
            path="/failed",
            alarm=failed > 0,
        ),
        Tile(
            name="Workers",
            value=number(len(alive)),
            note=f"{len(workers) - len(alive)} lost" if len(alive) < len(workers) else "all alive",
            path="/workers",
            alarm=len(alive) < len(workers),
        ),
    ]


def make_charts(steps: Sequence[Step], span: Span) -> list[dict[str, Any]]:
    """Return the charts: what ended, what waits, and how long jobs waited and ran."""
    made = [
        _chart(
            "Jobs that ended", stacked_bars(steps, ENDED, _ended_title, f"Jobs that ended, last {span.name}"), ENDED
        ),
        _chart(
            "Depth",
            lines(steps, DEPTH, _depth_title, f"Unfinished jobs, last {span.name}", filled=True),
            (),
            number(int(highest(steps, DEPTH))),
        ),
        _chart(
            "Waiting",
            lines(steps, WAITING, _waiting_title, f"Seconds from pending to claimed, last {span.name}"),
            WAITING,
            duration(highest(steps, WAITING)),
        ),
        _chart(
            "Running",
            lines(steps, RUNNING, _running_title, f"Seconds from claimed to ended, last {span.name}"),
            RUNNING,
            duration(highest(steps, RUNNING)),
        ),
    ]
    made[0]["most"] = number(max((step.ended for step in steps), default=0))
    return made


def _chart(name: str, svg: Markup, series: Sequence[tuple[str, str]], most: str = "") -> dict[str, Any]:
    return {"name": name, "svg": svg, "series": [colour for _, colour in series], "most": most}


def _at(step: Step) -> str:
    return f"{step.at:%H:%M UTC, %-d %b}"


def _ended_title(step: Step) -> str:
    return f"{_at(step)}: {step.completed:,} completed, {step.failed:,} failed, {step.aborted:,} aborted"


def _depth_title(step: Step) -> str:
    return f"{_at(step)}: {number(step.depth)} unfinished"


def _waiting_title(step: Step) -> str:
    return _quantiles(step, step.waiting_p50, step.waiting_p95, step.waiting_p99)


def _running_title(step: Step) -> str:
    return _quantiles(step, step.running_p50, step.running_p95, step.running_p99)


def _quantiles(step: Step, p50: float | None, p95: float | None, p99: float | None) -> str:
    return f"{_at(step)}: p50 {duration(p50)}, p95 {duration(p95)}, p99 {duration(p99)}"
