"""The facet of operators: changing jobs by hand."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from jobq_core.states import JobState
from jobq_core.storage.queue_options import QueueOptions, QueueOwner


class Change(Struct, frozen=True):
    """What an operation did to one job: its state before (None: no such job) and after.

    asked: the job is PROCESSING, and its request to stop was changed: it was asked to stop, so its state follows later,
        or a request to disable it was withdrawn.
    altered: its time, queue or priority was changed, and its state perhaps.
    """

    id: UUID
    before: JobState | None
    after: JobState | None
    asked: bool = False
    altered: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything happened, or will."""
        return self.asked or self.altered or self.before is not self.after


class OperatorStorage(abc.ABC):
    """What an operator does with a storage: they abort, retry, disable, enable and delete jobs.

    Each operation answers with one Change per id. An id that does not exist gives before=None, after=None. 'At the end
    of the line' does not say in which order several jobs of one call stand among themselves.

    Without `connection`, an operation on ids works in transactions of at most 1,000 jobs each, in the order of the ids,
    so that other work goes on. A call that raises, is cancelled or killed may have changed some of the jobs, and gives
    no answer about them. It can be repeated: what was changed is not changed again, unless the job has moved on
    meanwhile. A job that was retried and has failed again is retried again, one that was run now and waits for its
    next attempt runs now, and one that has run since it was rescheduled and waits again is rescheduled.
    """

    @abc.abstractmethod
    async def abort(self, ids: Sequence[UUID], *, connection: Any = None) -> list[Change]:
        """Abort jobs in any unfinished state: at once while they wait or are PENDING; a PROCESSING job is asked to stop
        (asked=True). A finished job is not changed. A job that changes its state meanwhile is not missed. A request to
        abort replaces a request to disable.

        connection: an open connection of the caller, in whose transaction the jobs are changed; the jobs stay locked
        until it ends.
        """

    @abc.abstractmethod
    async def abort_run(self, run_id: str, *, on_progress: Callable[[int], object] | None = None) -> list[Change]:
        """Abort every job added under this run, as `abort` does. Finished jobs are left out of the answer.

        Works in transactions of at most 1,000 jobs each, so that other work goes on. on_progress is called after each,
        with the number of jobs done so far. A call that raises (as on_progress may), is cancelled or killed leaves the
        jobs of later transactions as they were, and can be repeated.
        """

    @abc.abstractmethod
    async def retry(self, ids: Sequence[UUID], *, connection: Any = None) -> list[Change]:
        """Put FAILED and ABORTED jobs back: PENDING at the end of the line, with all attempts again, and with their
        history. Other jobs are not changed, nor is a job whose unique key now belongs to another job.

        A key that an open transaction of another session holds is waited for, one second at most. Raises
        UniqueKeyBusyError if the key is still held then: the job is not changed, and others may be.

        connection: as of `abort`.
        """

    @abc.abstractmethod
    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        """Make jobs DISABLED: at once while they wait or are PENDING; a PROCESSING job is asked to stop (asked=True),
        unless it was asked to abort before, which stands. Finished jobs are not changed."""

    @abc.abstractmethod
    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        """Make DISABLED jobs PENDING, at the end of the line, or SCHEDULED if their `run_at` still lies ahead; and
        withdraw the request to disable a PROCESSING job (asked=True). Other jobs are not changed. A job that was
        disabled in its last attempt may run once more, beyond `max_attempts`: enabling it asks for that."""

    @abc.abstractmethod
    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        """Remove jobs in any state, with their history (after=None). The lease of a running job ends, and its worker is
        notified."""

    @abc.abstractmethod
    async def run_now(self, ids: Sequence[UUID]) -> list[Change]:
        """Make jobs that wait for a time PENDING at once, at the end of the line: SCHEDULED ones, and BLOCKED ones that
        have a `run_at`. A gated job becomes BLOCKED as GATED instead. They wait for no time any more: `run_at` is None.
        Other jobs are not changed."""

    @abc.abstractmethod
    async def reschedule(self, ids: Sequence[UUID], run_at: datetime) -> list[Change]:
        """Have SCHEDULED, PENDING and DISABLED jobs wait until this moment: SCHEDULED and PENDING ones become or stay
        SCHEDULED with the reason 'delayed', DISABLED ones stay so. Other jobs are not changed. A moment that has come
        acts as `run_now`, except on DISABLED jobs: it becomes their `run_at`. The time of a job in its state goes on
        where it stays in it."""

    @abc.abstractmethod
    async def move(self, ids: Sequence[UUID], queue: str) -> list[Change]:
        """Move SCHEDULED, BLOCKED, DISABLED and PENDING jobs to another queue; PENDING ones go to the end of its line.
        Other jobs, and those that are in this queue, are not changed. What a job waits for stays, and its time in its
        state goes on. Its unique key stays one of the queue where it was added, after a retry too."""

    @abc.abstractmethod
    async def set_priority(self, ids: Sequence[UUID], priority: int) -> list[Change]:
        """Give SCHEDULED, BLOCKED, DISABLED and PENDING jobs another priority, -100 to 100; PENDING ones go to the end
        of the line of that priority. Other jobs, and those that have this priority, are not changed. The time of a job
        in its state goes on."""

    @abc.abstractmethod
    async def clear(self, queue: str, *, on_progress: Callable[[int], object] | None = None) -> int:
        """Remove all jobs of a queue, in any state; return their number. Jobs that are added meanwhile may be kept.
        Works in transactions of at most 1,000 jobs each, as `abort_run` does."""

    @abc.abstractmethod
    async def set_queue(self, queue: str, options: QueueOptions, owner: QueueOwner = "operator") -> None:
        """Set options of a queue, from now on; options that are None stay as they are.

        An option that an operator set is never replaced by a worker. Among workers, and among operators, the last call
        counts. A queue is paused by operators only: `paused` of a worker is ignored. A paused queue takes new jobs, and
        its running jobs go on; see `settle_and_claim`.
        """
