"""What the memory storage keeps of a job, of a queue and of a worker.

A job is in exactly one collection at a time, under a token: the line of its priority while it is PENDING, the running
jobs under its lease, or the bucket of its state. Each is in the order of arrival, and any job leaves it at the same
small cost.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeAlias
from uuid import UUID

import attrs
import msgspec
from msgspec import Raw

from jobq_core.encoding import decode_or_show
from jobq_core.records import (
    AttemptRecord,
    ErrorRecord,
    JobRecord,
    JobSummary,
    Progress,
    WorkerInfo,
    WorkerStats,
)
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import (
    FailedJob,
    JobStatus,
    LogPart,
    LogPlace,
    NewJob,
    QueueOwner,
    QueueRecord,
    Retention,
    queue_topic,
)
from jobq_core.timestamps import SECOND, to_datetime, to_optional_datetime

Bucket: TypeAlias = "OrderedDict[int, Row]"
"""Jobs of one state, by their tokens, in the order of arrival."""


class Queue:
    """The jobs of one queue.

    returned: the PENDING jobs that were released, claimed before all others.
    lines: the other PENDING jobs by priority, highest first.
    buckets: the jobs of the other states. PROCESSING has none: running jobs are found by their lease, over all queues.
    suspended: the BLOCKED jobs that wait for a worker that can take them, by kind.
    keys: the unfinished job of each unique key.
    kept: the retention that was set, and `owner` who set it.
    """

    __slots__ = (
        "buckets",
        "kept",
        "keys",
        "lines",
        "name",
        "owner",
        "paused_at",
        "paused_by",
        "returned",
        "suspended",
        "topic",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.topic = queue_topic(name)
        self.returned: Bucket = OrderedDict()
        self.lines: dict[int, Bucket] = {}
        self.buckets: dict[JobState, Bucket] = {
            state: OrderedDict() for state in JobState if state not in (JobState.PENDING, JobState.PROCESSING)
        }
        self.suspended: dict[str, Bucket] = {}
        self.keys: dict[str, UUID] = {}
        self.paused_at: int | None = None
        self.paused_by: str | None = None
        self.kept: Retention | None = None
        self.owner: QueueOwner | None = None

    def line(self, priority: int) -> Bucket:
        """Return the line of a priority, made if there is none."""
        line = self.lines.get(priority)
        if line is None:
            line = self.lines[priority] = OrderedDict()
            self.lines = dict(sorted(self.lines.items(), reverse=True))
        return line

    def pending(self) -> int:
        """Return the number of PENDING jobs."""
        return len(self.returned) + sum(map(len, self.lines.values()))

    def record(self) -> QueueRecord:
        """Return the options that were set."""
        return QueueRecord(
            name=self.name,
            paused_at=to_optional_datetime(self.paused_at),
            paused_by=self.paused_by,
            retention=self.kept,
            owner=self.owner,
        )


@attrs.define(eq=False)
class Row:
    """A job, with an attribute for each thing that a storage keeps of it. All moments are microseconds since 1970.

    Each run sets most of its attributes, which takes a struct of msgspec five times as long as a class of attrs.

    job: as it was added, but for its priority. Its queue holds its unique key; `queue` is where it is now.
    since: when the job came to its present state.
    waited: microseconds from becoming PENDING to the last claim; below 0 if the clock was set back.
    refused: the declarations that refused the job, the last ones.
    start_marked: whether the start of the run under `lease` was recorded by `mark_started`.
    settled: the state that the settlement under `lease` led to; None during the run, and if no settlement came.
    logs: the parts of the logs of its runs; None without any.
    """

    job: NewJob
    queue: Queue
    created_at: int
    run_at: int | None
    deadline: int | None
    since: int = 0
    waited: int = 0
    state: JobState = JobState.PENDING
    bucket: Bucket | None = None
    token: int = 0
    attempt: int = 0
    reason: str | None = None
    refused: tuple[str, ...] = ()
    request: StopRequest | None = None
    worker: UUID | None = None
    lease: int | None = None
    start_marked: bool = False
    settled: JobState | None = None
    started_at: int | None = None
    finished_at: int | None = None
    progress: tuple[float, str | None, bytes | None] | None = None
    result: bytes | None = None
    error: ErrorRecord | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    logs: dict[LogPlace, LogPart] | None = None

    def set_progress(self, progress: Progress) -> None:
        """Store progress. Its details are kept as JSON, since the caller may change the object later."""
        details = None if progress.details is None else msgspec.json.encode(progress.details)
        self.progress = (progress.percent, progress.message, details)

    def note_failure(self, error: ErrorRecord, now: int) -> None:
        """Append the run that ends now to the history."""
        assert self.lease is not None
        assert self.started_at is not None
        self.attempts += (
            AttemptRecord(
                number=self.attempt,
                lease=self.lease,
                worker=self.worker,
                started_at=to_datetime(self.started_at),
                finished_at=to_datetime(now),
                error=error,
            ),
        )

    def read_progress(self) -> Progress:
        """Return the progress, with a copy of the details."""
        if self.progress is None:
            return Progress()
        percent, message, details = self.progress
        return Progress(percent=percent, message=message, details=None if details is None else decode_or_show(details))

    def failed_job(self) -> FailedJob:
        """Return what is kept of this failed job for its follow-up."""
        job = self.job
        assert job.follow_up is not None
        return FailedJob(
            id=job.id,
            queue=self.queue.name,
            kind=job.kind,
            arguments=Raw(job.arguments),
            follow_up=Raw(job.follow_up),
            meta=Raw(job.meta or b"null"),
            run_id=job.run_id,
            error=self.error,
        )

    def _summary(self) -> dict[str, Any]:
        """Return the fields that a summary and a full record have in common."""
        job = self.job
        return {
            "id": job.id,
            "kind": job.kind,
            "queue": self.queue.name,
            "state": self.state,
            "priority": job.priority,
            "created_at": to_datetime(self.created_at),
            "run_at": to_optional_datetime(self.run_at),
            "deadline": to_optional_datetime(self.deadline),
            "timeout": job.timeout,
            "attempt": self.attempt,
            "max_attempts": job.max_attempts,
            "run_id": job.run_id,
            "tags": job.tags,
            "unique_key": job.unique_key,
            "reason": self.reason,
            "stop_request": self.request,
            "worker": self.worker,
            "lease": self.lease,
            "started_at": to_optional_datetime(self.started_at),
            "finished_at": to_optional_datetime(self.finished_at),
            "since": to_datetime(self.since),
            "gated": job.gated,
            "followed": job.followed,
        }

    def summary(self) -> JobSummary:
        """Return the job without its payloads."""
        percent, message, _ = self.progress or (0.0, None, None)
        error = self.error and ErrorRecord(type=self.error.type, message=self.error.message)
        return JobSummary(**self._summary(), progress=Progress(percent=percent, message=message), error=error)

    def record(self) -> JobRecord:
        """Return the full record of the job."""
        return JobRecord(
            **self._summary(),
            progress=self.read_progress(),
            error=self.error,
            arguments_json=self.job.arguments,
            result_json=self.result,
            meta_json=self.job.meta,
            attempts=self.attempts,
        )

    def status(self) -> JobStatus:
        """Return the status of the job."""
        job = self.job
        return JobStatus(
            id=job.id,
            kind=job.kind,
            queue=self.queue.name,
            state=self.state,
            attempt=self.attempt,
            progress=self.read_progress(),
            worker=self.worker,
            result_json=self.result,
            error=self.error,
        )


class WorkerRow(msgspec.Struct, eq=False):
    """A registered worker, alive until `lost_at` by the steady clock. Moments are in microseconds."""

    info: WorkerInfo
    started_at: int
    beat_at: int
    lost_at: int
    stats: WorkerStats

    @property
    def lost_after(self) -> int:
        """Microseconds after a heartbeat until the worker is lost."""
        return round(self.info.lost_after * SECOND)


def copy_stats(stats: WorkerStats) -> WorkerStats:
    """Return a copy that shares nothing mutable."""
    return msgspec.structs.replace(stats, unknown_kinds=dict(stats.unknown_kinds), unfit_kinds=dict(stats.unfit_kinds))
