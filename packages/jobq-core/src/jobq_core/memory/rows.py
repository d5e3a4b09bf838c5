"""What the memory storage keeps of a job, of a queue and of a worker.

A job is in exactly one place at a time, under a token: the line of its priority while it is PENDING, the running jobs
under its lease, or the place of its state. Each place is in the order of arrival, and any job leaves it at the same
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

Place: TypeAlias = "OrderedDict[int, Row]"


class Queue:
    """The jobs of one queue: `lines` of PENDING ones by priority, highest first, and a place for each other state."""

    __slots__ = ("lines", "name", "places", "retention", "topic")

    def __init__(self, name: str) -> None:
        self.name = name
        self.topic = queue_topic(name)
        self.lines: dict[int, Place] = {}
        # PROCESSING has none: running jobs are found by their lease, over all queues.
        self.places: dict[JobState, Place] = {
            state: OrderedDict() for state in JobState if state not in (JobState.PENDING, JobState.PROCESSING)
        }
        self.retention = Retention()

    def line(self, priority: int) -> Place:
        """Return the line of a priority, a new one if need be."""
        line = self.lines.get(priority)
        if line is None:
            line = self.lines[priority] = OrderedDict()
            self.lines = dict(sorted(self.lines.items(), reverse=True))
        return line


class Row(msgspec.Struct, eq=False):
    """A job. `asked` is what was submitted and never changes; all moments are microseconds since 1970.

    settled: the state that the settlement under `lease` led to; None while it runs, and where none came. begun: whether
    the run under `lease` was noted by `mark_started`.
    """

    asked: NewJob
    queue: Queue
    created_at: int
    run_at: int | None
    deadline: int | None
    state: JobState = JobState.PENDING
    place: Place | None = None
    token: int = 0
    attempt: int = 0
    reason: str | None = None
    request: StopRequest | None = None
    worker: UUID | None = None
    lease: int | None = None
    begun: bool = False
    settled: JobState | None = None
    started_at: int | None = None
    finished_at: int | None = None
    progress: tuple[float, str | None, bytes | None] | None = None
    result: bytes | None = None
    error: ErrorRecord | None = None
    attempts: tuple[AttemptRecord, ...] = ()

    def set_progress(self, progress: Progress) -> None:
        """Keep the details as JSON, so that the caller's own object may change afterwards."""
        details = None if progress.details is None else msgspec.json.encode(progress.details)
        self.progress = (progress.percent, progress.message, details)

    def note_failure(self, error: ErrorRecord, now: int) -> None:
        """Append the run that is ending to the history."""
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
        """Return the progress, with details of its own."""
        if self.progress is None:
            return Progress()
        percent, message, details = self.progress
        return Progress(percent=percent, message=message, details=None if details is None else decode_or_show(details))

    def record(self) -> JobRecord:
        """Return all that is known of the job."""
        asked = self.asked
        return JobRecord(
            id=asked.id,
            kind=asked.kind,
            queue=asked.queue,
            state=self.state,
            priority=asked.priority,
            arguments_json=asked.arguments,
            created_at=to_datetime(self.created_at),
            run_at=to_optional_datetime(self.run_at),
            deadline=to_optional_datetime(self.deadline),
            timeout=asked.timeout,
            attempt=self.attempt,
            max_attempts=asked.max_attempts,
            run_id=asked.run_id,
            tags=asked.tags,
            unique_key=asked.unique_key,
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
        """Return what a waiter needs of the job."""
        asked = self.asked
        return JobStatus(
            id=asked.id,
            kind=asked.kind,
            queue=asked.queue,
            state=self.state,
            attempt=self.attempt,
            progress=self.read_progress(),
            worker=self.worker,
            result_json=self.result,
            error=self.error,
        )


class WorkerRow(msgspec.Struct, eq=False):
    """A registered worker; alive until `lost_at`, by the clock that nobody sets."""

    info: WorkerInfo
    started_at: int
    beat_at: int
    lost_at: int
    stats: WorkerStats

    @property
    def lost_after(self) -> int:
        """For how many microseconds a sign of life holds."""
        return round(self.info.lost_after * SECOND)


def copy_stats(stats: WorkerStats) -> WorkerStats:
    """Return statistics that share nothing that can change."""
    return msgspec.structs.replace(stats, unknown_kinds=dict(stats.unknown_kinds))
