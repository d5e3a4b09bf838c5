"""Controlling jobs: abort, retry, disable, enable, delete, clear; their time, queue and priority."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from jobq_client.base import ClientBase
from jobq_client.base_handle import JobKey, id_of
from jobq_client.errors import not_found
from jobq_core.adding import start_time
from jobq_core.checks import Seconds
from jobq_core.errors import ConfigurationError, JobStateError
from jobq_core.job import check_name, check_priority
from jobq_core.states import JobState
from jobq_core.storage import Change


class Control(ClientBase):
    """The part of `JobQueueClient` that changes jobs."""

    async def abort(self, job: JobKey, *, connection: Any = None) -> bool:
        """Abort a job. A job that is not running ends immediately; a running job is asked to stop.

        Returns whether anything changed: False for a finished job. With `connection`, the job is aborted in that
        connection's open transaction, and stays locked until it ends (see `add`). Raises JobNotFoundError.
        """
        return _found(await self._running().storage.abort([id_of(job)], connection=connection)).changed

    async def abort_run(self, run_id: str, *, on_progress: Callable[[int], object] | None = None) -> int:
        """Abort all jobs that were added with this run id. Returns how many were aborted or asked to stop.

        Commits after at most a thousand jobs each time, so that other work continues. on_progress is
        called after each, with the number of jobs done; what it raises ends the call. An ended call may be repeated.
        """
        changes = await self._running().storage.abort_run(check_name(run_id, "run_id"), on_progress=on_progress)
        return sum(change.changed for change in changes)

    async def retry(self, job: JobKey, *, connection: Any = None) -> bool:
        """Put a FAILED or ABORTED job back to the end of its queue, with all its attempts; its history is kept.

        Returns whether anything changed: False for a job in any other state; of two concurrent calls one returns True.
        With `connection`, the job is retried in that connection's open transaction, as `abort` does.
        Raises JobNotFoundError; JobStateError if another job has the job's unique key now, and must finish first;
        UniqueKeyBusyError if an open transaction of another session holds the key for more than a second.
        """
        session = self._running()
        change = _found(await session.storage.retry([id_of(job)], connection=connection))
        if change.changed:
            session.events.reopen(change.id)
        elif change.before in (JobState.FAILED, JobState.ABORTED):
            raise JobStateError(f"job {change.id} cannot be retried now: its unique key belongs to another job")
        return change.changed

    async def disable(self, job: JobKey) -> bool:
        """Disable a job until it is enabled. A running job is asked to stop.

        Returns whether anything changed: False for a finished or disabled job. Raises JobNotFoundError.
        """
        return _found(await self._running().storage.disable([id_of(job)])).changed

    async def enable(self, job: JobKey) -> bool:
        """Let a disabled job run again, or withdraw the request to disable a running one.

        Returns whether anything changed: False for a job that is not disabled. Raises JobNotFoundError.
        """
        return _found(await self._running().storage.enable([id_of(job)])).changed

    async def run_now(self, job: JobKey) -> bool:
        """Let a job that waits for a time (a delay, or its next attempt) run now.

        It goes to the end of its line. Returns whether anything changed: False for a job that waits for no time.
        Raises JobNotFoundError.
        """
        return _found(await self._running().storage.run_now([id_of(job)])).changed

    async def reschedule(self, job: JobKey, *, run_at: datetime | None = None, delay: Seconds | None = None) -> bool:
        """Have a job that is scheduled, pending or disabled wait until another time.

        run_at: an aware datetime. delay: the time from now, in seconds or as a timedelta. One of the two must be given;
        a time in the past lets the job run now. Returns whether anything changed: False for a job in any other
        state. Raises JobNotFoundError.
        """
        session = self._running()
        when = start_time(delay, run_at)
        if when is None:
            raise ConfigurationError("give reschedule a run_at or a delay")
        moment = when if isinstance(when, datetime) else await session.storage.now() + timedelta(seconds=when)
        return _found(await session.storage.reschedule([id_of(job)], moment)).changed

    async def move(self, job: JobKey, queue: str) -> bool:
        """Move a job that is not running to another queue; a pending job goes to the end of its line.

        Its unique key stays one of the queue where it was added. Returns whether anything changed: False for a job that
        runs or is finished, or that is in this queue. Raises JobNotFoundError.
        """
        name = check_name(queue, "queue")
        return _found(await self._running().storage.move([id_of(job)], name)).changed

    async def set_priority(self, job: JobKey, priority: int) -> bool:
        """Change the priority of a job that is not running, from -100 to 100, higher first.

        A pending one goes to the end of the line of that priority. Returns whether anything changed: False for a job
        that runs or is finished, or that has this priority. Raises JobNotFoundError.
        """
        checked = check_priority(priority)
        return _found(await self._running().storage.set_priority([id_of(job)], checked)).changed

    async def delete(self, job: JobKey) -> bool:
        """Delete a job in any state, with its history; a running job is stopped, and its result is discarded.

        Returns True. Raises JobNotFoundError.
        """
        return _found(await self._running().storage.delete([id_of(job)])).changed

    async def clear(self, queue: str | None = None, *, on_progress: Callable[[int], object] | None = None) -> int:
        """Delete all jobs of a queue (default: the client's own) in any state. Returns how many.

        Works through them a thousand at a time, with `on_progress`, as `abort_run` does.
        """
        return await self._running().storage.clear(self._queue_or_own(queue), on_progress=on_progress)


def _found(changes: Sequence[Change]) -> Change:
    (change,) = changes
    if change.before is None:
        raise not_found(change.id)
    return change
