"""From jobq's values to the types of the API, with what a role does not see left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from jobq_core.activity import ActivityPoint
from jobq_core.logs import to_lines
from jobq_core.records import ErrorRecord, JobRecord, JobSummary, Progress, WorkerRecord
from jobq_core.storage import Change, JobFilter, JobStatus, LogPart, LogPlace, Operation, Retention
from jobq_server.web.activity import QueueRow
from jobq_server.web.api.types import (
    AttemptView,
    ChangeView,
    ErrorView,
    FilterBody,
    FilterView,
    JobDetail,
    JobEvent,
    JobQuery,
    JobView,
    LogLineView,
    LogsView,
    OperationView,
    PercentilesView,
    PointView,
    ProgressView,
    QueueView,
    RetentionBody,
    WorkerView,
)
from jobq_server.web.call import Call
from jobq_server.web.filters import parse_argument, to_query, to_utc


def error_view(error: ErrorRecord | None, *, hidden: bool) -> ErrorView | None:
    """Return an error."""
    if error is None:
        return None
    return ErrorView(error.type, None if hidden else error.message, None if hidden else error.traceback)


def progress_view(progress: Progress, *, hidden: bool) -> ProgressView:
    """Return the progress of a run."""
    if hidden:
        return ProgressView(progress.percent, None, None)
    return ProgressView(progress.percent, progress.message, progress.details)


def summary_fields(job: JobSummary, *, hidden: bool) -> dict[str, Any]:
    """Return the fields of a JobView."""
    fields = {name: getattr(job, name) for name in JobView.__struct_fields__}
    return fields | {
        "tags": list(job.tags),
        "progress": progress_view(job.progress, hidden=hidden),
        "error": error_view(job.error, hidden=hidden),
    }


def job_view(job: JobSummary, *, hidden: bool) -> JobView:
    """Return a job without its payloads."""
    return JobView(**summary_fields(job, hidden=hidden))


def job_detail(call: Call, job: JobRecord) -> JobDetail:
    """Return a job with the payloads that the role sees; numbers keep each digit."""
    payloads = call.web.payloads
    hidden = payloads.hides(call.identity)
    return JobDetail(
        **summary_fields(job, hidden=hidden),
        finished=job.finished,
        hidden=hidden,
        parent=job.parent,
        arguments=None if hidden else Raw(payloads.arguments(job)),
        result=None if hidden or job.result_json is None else Raw(job.result_json),
        headers=None if hidden or not job.meta else Raw(job.shown_headers),
        attempts=[
            AttemptView(
                number=attempt.number,
                lease=attempt.lease,
                worker=attempt.worker,
                started_at=attempt.started_at,
                finished_at=attempt.finished_at,
                error=error_view(attempt.error, hidden=hidden) or ErrorView("", None, None),
            )
            for attempt in job.attempts
        ],
    )


def job_event(status: JobStatus, *, hidden: bool) -> JobEvent:
    """Return what an event of a followed job says."""
    return JobEvent(
        id=status.id,
        state=status.state,
        attempt=status.attempt,
        progress=progress_view(status.progress, hidden=hidden),
        error=error_view(status.error, hidden=hidden),
    )


def logs_view(parts: Sequence[LogPart], *, hidden: bool) -> LogsView:
    """Return lines of a job's logs."""
    if hidden or not parts:
        return LogsView([], None, None, hidden)
    lines = [
        LogLineView(line.at, line.attempt, line.lease, line.level, line.logger, line.message)
        for line in to_lines(parts)
    ]
    first, last = (f"{part.lease}.{part.part}" for part in (parts[0], parts[-1]))
    return LogsView(lines, first, last, hidden)


def to_place(text: str | None) -> LogPlace | None:
    """Return the place of a query."""
    if text is None:
        return None
    lease, _, part = text.partition(".")
    return int(lease), int(part)


def change_view(change: Change) -> ChangeView:
    """Return what an action did to a job."""
    return ChangeView(change.id, change.before, change.after, change.asked, change.changed)


def to_filter(query: JobQuery | FilterBody) -> JobFilter:
    """Return the filter of a query or a body. Raises InvalidJobError for an argument without a name, and for a moment
    that no storage could compare with."""
    return JobFilter(
        queue=query.queue,
        states=query.state,
        kinds=query.kind,
        tags=query.tag,
        run_id=query.run_id,
        since=to_utc(query.since, "since"),
        until=to_utc(query.until, "until"),
        error=query.error,
        error_type=query.error_type,
        argument=parse_argument(query.argument),
        worker=query.worker,
        parent=query.parent,
    )


def filter_view(wanted: JobFilter) -> FilterView:
    """Return a filter."""
    return FilterView(
        queue=wanted.queue,
        state=sorted(wanted.states),
        kind=list(wanted.kinds),
        tag=list(wanted.tags),
        run_id=wanted.run_id,
        since=wanted.since,
        until=wanted.until,
        error=wanted.error,
        error_type=wanted.error_type,
        argument=to_query(wanted)["argument"],
        worker=wanted.worker,
        parent=wanted.parent,
    )


def operation_view(call: Call, operation: Operation) -> OperationView:
    """Return a bulk operation."""
    wanted = call.web.payloads.filter(call.identity, operation.filter)
    fields: dict[str, Any] = {name: getattr(operation, name) for name in OperationView.__struct_fields__}
    fields["filter"] = filter_view(wanted)
    return OperationView(**fields)


def retention_body(retention: Retention) -> RetentionBody:
    """Return a retention."""
    return RetentionBody(retention.completed, retention.failed, retention.aborted)


def queue_view(row: QueueRow) -> QueueView:
    """Return a queue."""
    record, ended = row.record, row.ended
    return QueueView(
        name=row.name,
        jobs=dict(row.jobs),
        oldest_seconds=row.oldest_seconds,
        counted_at=row.counted_at,
        paused_at=None if record is None else record.paused_at,
        paused_by=None if record is None else record.paused_by,
        retention=retention_body(Retention() if record is None or record.retention is None else record.retention),
        added_per_minute=row.added_per_minute,
        ended_per_minute=row.ended_per_minute,
        completed_last_hour=ended.completed,
        failed_last_hour=ended.failed,
        aborted_last_hour=ended.aborted,
        waiting_p50=ended.waiting.p50,
        waiting_p95=ended.waiting.p95,
        waiting_p99=ended.waiting.p99,
        running_p50=ended.running.p50,
        running_p95=ended.running.p95,
        running_p99=ended.running.p99,
        workers=row.workers,
        slots=row.slots,
        busy=row.busy,
    )


def point_view(point: ActivityPoint) -> PointView:
    """Return what went on in one step."""
    waiting, running = point.waiting, point.running
    fields: dict[str, Any] = {name: getattr(point, name) for name in PointView.__struct_fields__}
    fields["waiting"] = PercentilesView(waiting.p50, waiting.p95, waiting.p99)
    fields["running"] = PercentilesView(running.p50, running.p95, running.p99)
    return PointView(**fields)


def worker_view(worker: WorkerRecord, now: Any) -> WorkerView:
    """Return a worker."""
    info, stats = worker.info, worker.stats
    return WorkerView(
        id=info.id,
        name=info.name,
        host=info.host,
        pid=info.pid,
        alive=worker.is_alive(now),
        queues=list(info.queues),
        kinds=list(info.kinds),
        concurrency=worker.slots,
        running=stats.running,
        started_at=worker.started_at,
        beat_at=worker.beat_at,
        expires_at=worker.expires_at,
        completed=stats.completed,
        failed=stats.failed,
        retried=stats.retried,
        aborted=stats.aborted,
        busy_seconds=stats.busy_seconds,
        hung=stats.hung,
        loop_lag=stats.loop_lag,
        limited=stats.limited,
        memory=stats.memory,
        processor=stats.processor,
        notified=stats.hears,
        versions=info.versions,
    )
