"""`Subscriptions`: which subscribers want which jobs, and the jobs whose status is due to be read.

A notification says that some job changed, and not which one. Of thousands of jobs that are waited for, those that are
known to run and those that were subscribed first are the likely ones; the others take turns.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import Final
from uuid import UUID

from jobq_client.subscribers import Subscriber
from jobq_core.states import JobState
from jobq_core.storage import JobStatus

LIKELY: Final = 1000
"""Maximum number of jobs that are read after a notification."""


class Subscriptions:
    """The subscribers of each job. `changed`: whether some job may have changed."""

    def __init__(self) -> None:
        self._by_job: dict[UUID, dict[Subscriber, None]] = {}
        self._running: dict[UUID, None] = {}
        self._due: dict[UUID, None] = {}
        self._turns: list[UUID] = []
        self.changed = False

    def __len__(self) -> int:
        """Return the number of jobs."""
        return len(self._by_job)

    @property
    def due(self) -> bool:
        """Whether jobs are due, apart from those that may have changed."""
        return bool(self._due)

    def add(self, job_id: UUID, subscriber: Subscriber) -> None:
        """Add a subscriber; the job is due at once."""
        self._by_job.setdefault(job_id, {})[subscriber] = None
        self._due[job_id] = None

    def remove(self, job_id: UUID, subscriber: Subscriber) -> bool:
        """Remove a subscriber, if it is there. Returns whether it was the job's last."""
        subscribers = self._by_job.get(job_id, {})
        if subscriber not in subscribers:
            return False
        del subscribers[subscriber]
        if subscribers:
            return False
        del self._by_job[job_id]
        self._due.pop(job_id, None)
        self._running.pop(job_id, None)
        return True

    def progress_changed(self, *, concerns_all: bool) -> None:
        """Make the jobs due whose progress a subscriber wants, or all jobs."""
        self._due.update(
            dict.fromkeys(
                job_id
                for job_id, subscribers in self._by_job.items()
                if concerns_all or any(one.progress for one in subscribers)
            )
        )

    def take_turns(self, count: int) -> None:
        """Make the next jobs due, so many at most, in turns that reach each job."""
        if not self._turns:
            self._turns = list(reversed(self._by_job))
        turn, self._turns = self._turns[-count:], self._turns[:-count]
        self._due.update((job_id, None) for job_id in reversed(turn) if job_id in self._by_job)

    def take_due(self, limit: int) -> list[tuple[UUID, tuple[Subscriber, ...]]]:
        """Return the jobs that are due, so many at most, with their present subscribers; they are not due then.

        A status must reach these subscribers alone: one that comes while the status is read may know of a later
        change, such as a retry.
        """
        if self.changed:
            self.changed = False
            self._due.update(dict.fromkeys(islice(chain(self._running, self._by_job), LIKELY)))
        job_ids = list(islice(self._due, limit))
        for job_id in job_ids:
            del self._due[job_id]
        return [(job_id, tuple(self._by_job[job_id])) for job_id in job_ids]

    def make_due(self, job_ids: list[UUID]) -> None:
        """Make jobs due again whose status could not be read, if they still have subscribers."""
        self._due.update((job_id, None) for job_id in job_ids if job_id in self._by_job)

    def deliver(self, job_id: UUID, subscribers: tuple[Subscriber, ...], status: JobStatus | None) -> list[Subscriber]:
        """Give a job's status (None: it does not exist) to those of its subscribers that are still there.

        Returns the subscribers whose subscription is over by it; they must be removed.
        """
        present = self._by_job.get(job_id, {})
        if present and status is not None and status.state is JobState.PROCESSING:
            self._running[job_id] = None
        else:
            self._running.pop(job_id, None)
        over: list[Subscriber] = []
        for subscriber in subscribers:
            if subscriber not in present:
                continue
            if status is None:
                subscriber.fail(None)
            elif not subscriber.see(status):
                continue
            over.append(subscriber)
        return over

    def fail_all(self, error: Exception) -> None:
        """End all subscriptions with an error."""
        by_job, self._by_job = self._by_job, {}
        self._due.clear()
        self._running.clear()
        self._turns.clear()
        for subscribers in by_job.values():
            for subscriber in subscribers:
                subscriber.fail(error)
