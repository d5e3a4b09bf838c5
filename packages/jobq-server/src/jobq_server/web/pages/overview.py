"""The overview: what needs attention, the totals, charts, and all queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Any, Final

import attrs
from markupsafe import Markup

from jobq_core.activity import ActivityPoint, Percentiles
from jobq_core.states import JobState
from jobq_core.storage import Finding
from jobq_server.web.activity import SPANS, Overview, Span, read_overview, read_points
from jobq_server.web.call import Call
from jobq_server.web.charts.axes import Scale, count_scale, duration_scale, time_ticks
from jobq_server.web.charts.svg import Frame, Series, highest, lines, stacked_bars
from jobq_server.web.formatting import duration, number, plural
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()

ENDED: Final = tuple(Series(state, attrgetter(state)) for state in ("completed", "aborted", "failed"))
UNFINISHED: Final = (Series("pending", attrgetter("unfinished")),)
WAITING: Final = tuple(Series(name, attrgetter(f"waiting.{name}")) for name in ("p50", "p95", "p99"))
RUNNING: Final = tuple(Series(name, attrgetter(f"running.{name}")) for name in ("p50", "p95", "p99"))


@attrs.frozen(kw_only=True)
class Chart:
    """A chart. series: what its legend names. most: its highest value."""

    name: str
    svg: Markup
    most: str
    series: Sequence[Series] = ()


@attrs.frozen(kw_only=True)
class Tile:
    """A figure, and the page that it leads to. alarm: whether it is bad."""

    name: str
    value: str
    note: str
    path: str
    query: dict[str, str] = attrs.field(factory=dict)
    alarm: bool = False


@attrs.frozen(kw_only=True)
class Attention:
    """What is wrong, and the page that helps."""

    severity: str
    message: str
    remedy: str
    path: str
    query: Mapping[str, Any] = attrs.field(factory=dict)


@routes.get("/", access=Role.VIEW)
async def overview(call: Call) -> View:
    """Show all queues, with the charts of all or of one of them."""
    span = SPANS.get(call.query("span"), SPANS["hour"])
    chosen = call.query("queue") or None
    read = await read_overview(call.storage)
    points = await read_points(call.storage, span, read.now, chosen)
    return View(
        "overview.html",
        {
            "attention": [to_attention(finding) for finding in read.findings],
            "charts": make_charts(points, span),
            "chosen": chosen,
            "queues": read.queues,
            "span": span,
            "spans": SPANS.values(),
            "storage_now": read.now,
            "tiles": make_tiles(read),
        },
    )


def to_attention(finding: Finding) -> Attention:
    """Return a finding with the page that helps."""
    pages: dict[str, tuple[str, Mapping[str, Any]]] = {
        "no-worker": ("/jobs", {"queue": finding.subject, "state": "pending"}),
        "long-running": ("/jobs", {"queue": finding.subject, "state": "processing"}),
        "too-few-slots": ("/jobs", {"queue": finding.subject, "state": "pending"}),
        "slow-backlog": ("/jobs", {"queue": finding.subject, "state": "pending"}),
        "failing-kind": ("/failed", {}),
        "paused-queue": ("/settings", {}),
        "operation-left": ("/operations", {}),
        "clock-skew": ("/doctor", {}),
    }
    path, query = pages.get(finding.code, ("/workers", {}))
    message = finding.message[:1].upper() + finding.message[1:]
    return Attention(severity=finding.severity.value, message=message, remedy=finding.remedy, path=path, query=query)


def make_tiles(read: Overview) -> list[Tile]:
    """Return the figures at the top."""
    queues, alive, lost = read.queues, len(read.alive), len(read.workers) - len(read.alive)
    slots = sum(worker.slots for worker in read.alive)
    oldest = max((row.oldest_seconds for row in queues if row.oldest_seconds is not None), default=None)
    failed = sum(row.ended.failed for row in queues)
    ended = sum(row.ended.all for row in queues)
    added = [row.added_per_minute for row in queues if row.added_per_minute is not None]
    return [
        Tile(
            name="Pending",
            value=number(sum(row.count(JobState.PENDING) for row in queues)),
            note="no waiting jobs" if oldest is None else f"oldest {duration(oldest)}",
            path="/jobs",
            query={"state": "pending"},
        ),
        Tile(
            name="Running",
            value=number(sum(row.count(JobState.PROCESSING) for row in queues)),
            note=f"of {plural(slots, 'slot')}" if slots else "no slots",
            path="/jobs",
            query={"state": "processing"},
        ),
        Tile(
            name="Ended per minute",
            value=number(sum(row.ended_per_minute for row in queues)),
            note=f"{number(sum(added))} added" if added else f"{number(ended)} in the last hour",
            path="/jobs",
            query={"state": "completed"},
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
            value=number(alive),
            note=f"{lost} lost" if lost else "all alive",
            path="/workers",
            alarm=lost > 0,
        ),
    ]


def make_charts(points: Sequence[ActivityPoint], span: Span) -> list[Chart]:
    """Return the charts: what ended, what is unfinished, and how long jobs waited and ran."""
    until = points[-1].at + timedelta(seconds=span.step)
    times, last = time_ticks(points[0].at, until, span.every), f"last {span.name}"

    def frame(scale: Scale, title: Callable[[ActivityPoint], str], label: str) -> Frame:
        return Frame(scale=scale, times=times, title=title, label=f"{label}, {last}")

    ended = max(point.ended for point in points)
    unfinished = int(highest(points, UNFINISHED))
    waited, ran = highest(points, WAITING), highest(points, RUNNING)
    return [
        Chart(
            name=f"Ended per {span.per}",
            svg=stacked_bars(points, ENDED, frame(count_scale(ended), _ended_title, "Jobs that ended")),
            series=ENDED,
            most=number(ended),
        ),
        Chart(
            name="Unfinished jobs",
            svg=lines(
                points, UNFINISHED, frame(count_scale(unfinished), _unfinished_title, "Unfinished jobs"), filled=True
            ),
            most=number(unfinished),
        ),
        Chart(
            name="Waiting time",
            svg=lines(points, WAITING, frame(duration_scale(waited), _waiting_title, "Time from pending to claimed")),
            series=WAITING,
            most=duration(waited),
        ),
        Chart(
            name="Running time",
            svg=lines(points, RUNNING, frame(duration_scale(ran), _running_title, "Time from claimed to ended")),
            series=RUNNING,
            most=duration(ran),
        ),
    ]


def _at(point: ActivityPoint) -> str:
    return f"{point.at:%H:%M UTC, %-d %b}"


def _ended_title(point: ActivityPoint) -> str:
    return f"{_at(point)}: {point.completed:,} completed, {point.failed:,} failed, {point.aborted:,} aborted"


def _unfinished_title(point: ActivityPoint) -> str:
    return f"{_at(point)}: {number(point.unfinished)} unfinished, {number(point.pending)} of them pending"


def _waiting_title(point: ActivityPoint) -> str:
    return _percentiles(point, point.waiting)


def _running_title(point: ActivityPoint) -> str:
    return _percentiles(point, point.running)


def _percentiles(point: ActivityPoint, found: Percentiles) -> str:
    return f"{_at(point)}: p50 {duration(found.p50)}, p95 {duration(found.p95)}, p99 {duration(found.p99)}"
