"""The part of `JobQueue` that adds, watches and controls jobs, through its client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar, Unpack, overload
from uuid import UUID

from jobq_client import JobHandle, JobKey
from jobq_core.adding import AddOptions
from jobq_core.checks import Seconds
from jobq_core.job import Job
from jobq_core.logs import LoggedLine
from jobq_core.records import JobRecord, JobSummary, Progress
from jobq_core.states import JobState
from jobq_core.storage import Page
from jobq_server.queue_parts import QueueParts

R = TypeVar("R")


class QueueClient(QueueParts):
    """What a `JobQueue` does through its client. Every method raises QueueModeError in mode SERVER."""

    async def add(self, job: Job[R], *, connection: Any = None, **options: Unpack[AddOptions]) -> JobHandle[R]:
        """Add a job as `JobQueueClient.add` does, to this queue unless `queue` names another."""
        options.setdefault("queue", self._name)
        return await self.client.add(job, connection=connection, **options)

    async def add_many(
        self, jobs: Iterable[Job[R]], *, connection: Any = None, **options: Unpack[AddOptions]
    ) -> list[JobHandle[R]]:
        """Add jobs as `JobQueueClient.add_many` does, to this queue unless `queue` names another."""
        options.setdefault("queue", self._name)
        return await self.client.add_many(jobs, connection=connection, **options)

    @overload
    async def wait_for(self, job: JobHandle[R], *, timeout: Seconds | None = None) -> R: ...
    @overload
    async def wait_for(self, job: UUID | str, *, timeout: Seconds | None = None) -> Any: ...
    async def wait_for(self, job: JobKey, *, timeout: Seconds | None = None) -> Any:
        """Wait until a job is over and return its result, or raise its error: `JobQueueClient.wait_for`."""
        return await self.client.wait_for(job, timeout=timeout)

    async def output_for(self, job: Job[R]) -> R | None:
        """Return the result of this queue's newest completed job with the same kind and arguments, or None:
        `JobQueueClient.output_for`."""
        return await self.client.output_for(job, queue=self._name)

    def on_progress(
        self, job: JobKey, callback: Callable[[Progress], object | Awaitable[object]]
    ) -> Callable[[], None]:
        """Call back at each change of a job's progress until its end: `JobQueueClient.on_progress`."""
        return self.client.on_progress(job, callback)

    def follow(self, job: JobKey) -> AsyncIterator[Progress]:
        """Iterate over a job's progress until its end: `JobQueueClient.follow`."""
        return self.client.follow(job)

    async def get(self, job: JobKey, *, connection: Any = None) -> JobRecord | None:
        """Return the full record of a job; None if the job does not exist."""
        return await self.client.get(job, connection=connection)

    async def logs(self, job: JobKey, *, attempt: int | None = None) -> list[LoggedLine]:
        """Return what the handler of a job logged: `JobQueueClient.logs`."""
        return await self.client.logs(job, attempt=attempt)

    async def find(
        self,
        *,
        state: JobState | Iterable[JobState] = (),
        kind: str | Iterable[str] = (),
        tag: str | Iterable[str] = (),
        run_id: str | None = None,
        after: JobKey | None = None,
        limit: int = 100,
    ) -> Page:
        """Return a page of this queue's jobs, newest first: `JobQueueClient.find`."""
        return await self.client.find(
            state=state, queue=self._name, kind=kind, tag=tag, run_id=run_id, after=after, limit=limit
        )

    async def peek(self, n: int = 1) -> list[JobSummary]:
        """Return the next `n` jobs of this queue: PENDING, by priority, then oldest first: `JobQueueClient.peek`."""
        return await self.client.peek(n)

    async def size(self, *, state: JobState = JobState.PENDING) -> int:
        """Return the number of this queue's jobs in one state (default: PENDING)."""
        return await self.client.size(state=state)

    async def counts(self) -> dict[JobState, int]:
        """Return the number of this queue's jobs in each of the eight states."""
        return await self.client.counts()

    async def abort(self, job: JobKey, *, connection: Any = None) -> bool:
        """Abort a job: `JobQueueClient.abort`."""
        return await self.client.abort(job, connection=connection)

    async def abort_run(self, run_id: str, *, on_progress: Callable[[int], object] | None = None) -> int:
        """Abort all jobs that were added with this run id, to any queue: `JobQueueClient.abort_run`."""
        return await self.client.abort_run(run_id, on_progress=on_progress)

    async def retry(self, job: JobKey, *, connection: Any = None) -> bool:
        """Put a FAILED or ABORTED job back to the end of its queue: `JobQueueClient.retry`."""
        return await self.client.retry(job, connection=connection)

    async def disable(self, job: JobKey) -> bool:
        """Disable a job until it is enabled: `JobQueueClient.disable`."""
        return await self.client.disable(job)

    async def enable(self, job: JobKey) -> bool:
        """Let a disabled job run again: `JobQueueClient.enable`."""
        return await self.client.enable(job)

    async def delete(self, job: JobKey) -> bool:
        """Delete a job in any state, with its history: `JobQueueClient.delete`."""
        return await self.client.delete(job)

    async def clear(self, *, on_progress: Callable[[int], object] | None = None) -> int:
        """Delete all jobs of this queue, in any state: `JobQueueClient.clear`. Returns how many."""
        return await self.client.clear(on_progress=on_progress)

    async def pause(self) -> None:
        """Let workers claim no job of this queue until `resume`: `JobQueueClient.pause`."""
        await self.client.pause()

    async def resume(self) -> None:
        """Let workers claim jobs of this queue again: `JobQueueClient.resume`."""
        await self.client.resume()
