"""The client's events: what happens to the jobs that it waits for, follows or watches, emitted once each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from jobq_core.events import EventSource, JobAborted, JobCompleted, JobDisabled, JobFailed, JobProgressed, RunEvent
from jobq_core.records import Progress
from jobq_core.states import JobState
from jobq_core.storage import JobStatus

REMEMBERED: Final = 10_000
"""Maximum number of ends that are remembered, so that waiting for a job again does not emit its end again."""

_ENDS: Final = (JobCompleted, JobFailed, JobAborted, JobDisabled)

_NO_PROGRESS: Final = Progress()


class ClientEvents:
    """Turns the statuses of jobs into events of the client."""

    def __init__(self, source: EventSource) -> None:
        self._source = source
        # A hash of each end, without its result, which may be large.
        self._ended: OrderedDict[UUID, int] = OrderedDict()
        self._progress: dict[UUID, Progress] = {}

    def wants_progress(self) -> bool:
        """Return whether anything listens for JobProgressed."""
        return self._source.wants(JobProgressed)

    def see(self, statuses: Iterable[JobStatus]) -> None:
        """Emit the events of what changed since the last status of each job."""
        progress = self.wants_progress()
        if not progress and not any(self._source.wants(end) for end in _ENDS):
            return
        for status in statuses:
            if progress:
                self._see_progress(status)
            self._see_end(status)

    def forget_progress(self, job_id: UUID) -> None:
        """Drop the progress of a job that has no subscriber any more."""
        self._progress.pop(job_id, None)

    def reopen(self, job_id: UUID) -> None:
        """Emit the job's next end too: it was retried."""
        self._ended.pop(job_id, None)

    def _see_progress(self, status: JobStatus) -> None:
        if self._progress.get(status.id, _NO_PROGRESS) != status.progress:
            self._progress[status.id] = status.progress
            self._source.emit(
                JobProgressed(
                    job_id=status.id,
                    kind=status.kind,
                    queue=status.queue,
                    attempt=status.attempt,
                    worker=status.worker,
                    progress=status.progress,
                )
            )

    def _see_end(self, status: JobStatus) -> None:
        event = _end_of(status)
        if event is None:
            self._ended.pop(status.id, None)
        elif self._ended.get(status.id) != (end := _hash_of(status)):
            self._ended[status.id] = end
            if len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)
            self._source.emit(event)


def _hash_of(status: JobStatus) -> int:
    return hash((status.state, status.attempt, status.worker, status.error, status.result_json))


def _end_of(status: JobStatus) -> RunEvent | None:
    job_id, kind, queue, attempt, worker = status.id, status.kind, status.queue, status.attempt, status.worker
    match status.state:
        case JobState.COMPLETED:
            return JobCompleted(
                job_id=job_id,
                kind=kind,
                queue=queue,
                attempt=attempt,
                worker=worker,
                result_json=b"null" if status.result_json is None else status.result_json,
            )
        case JobState.FAILED:
            end: type[JobFailed | JobAborted | JobDisabled] = JobFailed
        case JobState.ABORTED:
            end = JobAborted
        case JobState.DISABLED:
            end = JobDisabled
        case _:
            return None
    return end(job_id=job_id, kind=kind, queue=queue, attempt=attempt, worker=worker, error=status.error)
