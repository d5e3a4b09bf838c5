"""The client's events: what happens to the jobs that it waits for or watches, told once each."""

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
"""Endings kept, so that a job that is waited for again is not announced again."""

_ENDINGS: Final = (JobCompleted, JobFailed, JobAborted, JobDisabled)


class ClientEvents:
    """Makes events of how jobs stand, for whoever listens to the client."""

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self._ended: OrderedDict[UUID, RunEvent] = OrderedDict()
        self._progress: dict[UUID, Progress] = {}

    def wants_progress(self) -> bool:
        """Say whether anybody listens for progress."""
        return self._source.wants(JobProgressed)

    def see(self, statuses: Iterable[JobStatus]) -> None:
        """Announce what is new about these jobs."""
        progress = self.wants_progress()
        if not progress and not any(self._source.wants(ending) for ending in _ENDINGS):
            return
        for status in statuses:
            if progress:
                self._see_progress(status)
            self._see_ending(status)

    def forget_progress(self, job_id: UUID) -> None:
        """Drop what was kept of a job that nobody here follows any more."""
        self._progress.pop(job_id, None)

    def reopen(self, job_id: UUID) -> None:
        """Announce the job's next ending too: it was retried."""
        self._ended.pop(job_id, None)

    def _see_progress(self, status: JobStatus) -> None:
        if self._progress.get(status.id, _NONE) != status.progress:
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

    def _see_ending(self, status: JobStatus) -> None:
        event = _ending_of(status)
        if event is None:
            self._ended.pop(status.id, None)
        elif self._ended.get(status.id) != event:
            self._ended[status.id] = event
            if len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)
            self._source.emit(event)


_NONE: Final = Progress()


def _ending_of(status: JobStatus) -> RunEvent | None:
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
            ending: type[JobFailed | JobAborted | JobDisabled] = JobFailed
        case JobState.ABORTED:
            ending = JobAborted
        case JobState.DISABLED:
            ending = JobDisabled
        case _:
            return None
    return ending(job_id=job_id, kind=kind, queue=queue, attempt=attempt, worker=worker, error=status.error)
