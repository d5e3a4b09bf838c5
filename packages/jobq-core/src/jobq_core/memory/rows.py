"""What the memory storage keeps of a job, of a queue and of a worker.

A job is in exactly one collection at a time, under a token: the line of its priority while it is PENDING, the running
jobs under its lease, or the bucket of its state. Each is in the order of arrival, and any job leaves it at the same
small cost.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias
from uuid import UUID

import msgspec

from jobq_core.encoding import decode_or_show
from jobq_core.records import AttemptRecord, ErrorRecord, JobRecord, Progress, WorkerInfo, WorkerStats
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import JobStatus, NewJob, Retention, queue_topic
from jobq_core.timestamps import SECOND, to_datetime, to_optional_datetime

Bucket: TypeAlias = "OrderedDict[int, Row]"
"""Jobs of one state, by their tokens, in the order of arrival."""


class Queue:
    """The jobs of one queue.

    lines: the PENDING jobs by priority, highest first.
    buckets: the jobs of the other states. PROCESSING has none: running jobs are found by their lease, over all queues.
    keys: the unfinished job of each unique key.
    """

    __slots__ = ("buckets", "keys", "lines", "name", "retention", "topic")

    def __init__(self, name: str) -> None:
        self.name = name
        self.topic = queue_topic(name)
        self.lines: dict[int, Bucket] = {}
        self.buckets: dict[JobState, Bucket] = {
            state: OrderedDict() for state in JobState if state not in (JobState.PENDING, JobState.PROCESSING)
        }
        self.keys: dict[str, UUID] = {}
        self.retention = Retention()

    def line(self, priority: int) -> Bucket:
        """Return the line of a priority, made if there is none."""
        line = self.lines.get(priority)
        if line is None:
            line = self.lines[priority] = OrderedDict()
            self.lines = dict(sorted(self.lines.items(), reverse=True))
        return line


class Row(msgspec.Struct, eq=False):
    """A job, with an attribute for each thing that a storage keeps of it. All moments are microseconds since 1970.

    job: as it was added; never changes.
    start_marked: whether the start of the run under `lease` was recorded by `mark_started`.
    settled: the state that the settlement under `lease` led to; None during the run, and if no settlement came.
    """

    job: NewJob
    queue: Queue
    created_at: int
    run_at: int | None
    deadline: int | None
    state: JobState = JobState.PENDING
    bucket: Bucket | None = None
    token: int = 0
    attempt: int = 0
    reason: str | None = None
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

    def record(self) -> JobRecord:
        """Return the full record of the job."""
        job = self.job
        return JobRecord(
            id=job.id,
            kind=job.kind,
            queue=job.queue,
            state=self.state,
            priority=job.priority,
            arguments_json=job.arguments,
            created_at=to_datetime(self.created_at),
            run_at=to_optional_datetime(self.run_at),
            deadline=to_optional_datetime(self.deadline),
            timeout=job.timeout,
            attempt=self.attempt,
            max_attempts=job.max_attempts,
            run_id=job.run_id,
            tags=job.tags,
            unique_key=job.unique_key,
            reason=self.reason,
            stop_request=self.request,
            worker=self.worker,
            lease=self.lease,
            started_at=to_optional_datetime(self.started_at),
            finished_at=to_optional_datetime(self.finished_at),
            progress=self.read_progress(),
            result_json=self.result,
            error=self.error,
            attempts=self.attempts,
        )

    def status(self) -> JobStatus:
        """Return the status of the job."""
        job = self.job
        return JobStatus(
            id=job.id,
            kind=job.kind,
            queue=job.queue,
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
    return msgspec.structs.replace(stats, unknown_kinds=dict(stats.unknown_kinds))
