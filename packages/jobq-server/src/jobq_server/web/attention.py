"""What needs someone's attention now, in one sentence each, with the page that helps. Pure, from what was read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Final

import attrs

from jobq_core.records import WorkerRecord
from jobq_core.states import JobState
from jobq_server.web.activity import QueueRow
from jobq_server.web.formatting import duration, number, percent, plural

LAG_SECONDS: Final = 1.0
"""A loop that did not answer for this long keeps jobs from starting, and heartbeats from being sent."""
FAILING_SHARE: Final = 0.1
FAILING_JOBS: Final = 5


@attrs.frozen(kw_only=True)
class Attention:
    """One thing to look at. path, query: of the page that helps."""

    severity: str
    message: str
    path: str
    query: dict[str, Any] = attrs.field(factory=dict)


def find_attention(queues: Sequence[QueueRow], workers: Sequence[WorkerRecord], now: datetime) -> list[Attention]:
    """Return what needs attention, errors first."""
    found = [*_of_queues(queues, workers, now), *_of_workers(workers, now)]
    return sorted(found, key=lambda one: one.severity != "error")


def _of_queues(queues: Sequence[QueueRow], workers: Iterable[WorkerRecord], now: datetime) -> Iterator[Attention]:
    served = {name for worker in workers if worker.expires_at > now for name in worker.info.queues}
    for row in queues:
        pending = row.count(JobState.PENDING)
        record = row.record
        if record is not None and record.paused_at is not None:
            by = f" by {record.paused_by}" if record.paused_by else ""
            since = duration((now - record.paused_at).total_seconds())
            holds = f"; {plural(pending, 'job')} wait" if pending else ""
            yield Attention(
                severity="warning", message=f"Queue {row.name} is paused{by} since {since}{holds}", path="/settings"
            )
        elif pending and not row.workers:
            like = get_close_matches(row.name, served, n=1)
            hint = f"; did you mean {like[0]}?" if like else ""
            yield Attention(
                severity="error",
                message=f"No live worker serves queue {row.name}, where {plural(pending, 'job')} wait{hint}",
                path="/jobs",
                query={"queue": row.name, "state": "pending"},
            )
        total = row.total
        if total.failed >= FAILING_JOBS and total.failed >= FAILING_SHARE * total.ended:
            yield Attention(
                severity="error",
                message=f"{percent(total.failed / total.ended)} of the jobs of queue {row.name} that ended in the last "
                f"hour failed: {number(total.failed)} of {number(total.ended)}",
                path="/failed",
                query={"queue": row.name},
            )


def _of_workers(workers: Iterable[WorkerRecord], now: datetime) -> Iterator[Attention]:
    for worker in workers:
        name, stats = worker.info.name, worker.stats
        if worker.expires_at <= now:
            silent = duration((now - worker.beat_at).total_seconds())
            yield Attention(
                severity="error", message=f"Worker {name} has missed its heartbeat for {silent}", path="/workers"
            )
            continue
        if stats.hung:
            yield Attention(
                severity="error",
                message=f"{plural(stats.hung, 'handler')} of worker {name} hang past their time limit",
                path="/workers",
            )
        if stats.loop_lag >= LAG_SECONDS:
            yield Attention(
                severity="warning",
                message=f"The event loop of worker {name} did not answer for {duration(stats.loop_lag)}",
                path="/workers",
            )
        for kind, count in stats.unknown_kinds.items():
            yield Attention(
                severity="warning",
                message=f"Worker {name} has no handler for kind {kind}: {plural(count, 'job')} kept back",
                path="/jobs",
                query={"state": "blocked", "kind": kind},
            )
