"""`Subscriptions`: which subscribers want which jobs, and the jobs whose status is due to be read."""

from __future__ import annotations

from uuid import UUID

from jobq_client.subscribers import Subscriber
from jobq_core.storage import JobStatus


class Subscriptions:
    """The subscribers of each job. `all_due`: whether the status of every job is due."""

    def __init__(self) -> None:
        self._by_job: dict[UUID, dict[Subscriber, None]] = {}
        self._due: set[UUID] = set()
        self.all_due = False

    def __len__(self) -> int:
        """Return the number of jobs."""
        return len(self._by_job)

    def add(self, job_id: UUID, subscriber: Subscriber) -> None:
        """Add a subscriber; the job is due at once."""
        self._by_job.setdefault(job_id, {})[subscriber] = None
        self._due.add(job_id)

    def remove(self, job_id: UUID, subscriber: Subscriber) -> bool:
        """Remove a subscriber, if it is there. Returns whether it was the job's last."""
        subscribers = self._by_job.get(job_id, {})
        if subscriber not in subscribers:
            return False
        del subscribers[subscriber]
        if subscribers:
            return False
        del self._by_job[job_id]
        self._due.discard(job_id)
        return True

    def progress_changed(self, *, concerns_all: bool) -> None:
        """Make the jobs due whose progress a subscriber wants, or all jobs."""
        self._due.update(
            job_id
            for job_id, subscribers in self._by_job.items()
            if concerns_all or any(one.progress for one in subscribers)
        )

    def take_due(self, everything: bool) -> list[tuple[UUID, tuple[Subscriber, ...]]]:
        """Return the jobs that are due, or all jobs, with their present subscribers; none is due then.

        A status must reach these subscribers alone: one that comes while the status is read may know of a later
        change, such as a retry.
        """
        job_ids = list(self._by_job if everything else self._due)
        self._due.clear()
        if job_ids:
            self.all_due = False
        return [(job_id, tuple(self._by_job[job_id])) for job_id in job_ids]

    def deliver(self, job_id: UUID, subscribers: tuple[Subscriber, ...], status: JobStatus | None) -> list[Subscriber]:
        """Give a job's status (None: it does not exist) to those of its subscribers that are still there.

        Returns the subscribers whose subscription is over by it; they must be removed.
        """
        over: list[Subscriber] = []
        for subscriber in subscribers:
            if subscriber not in self._by_job.get(job_id, ()):
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
        for subscribers in by_job.values():
            for subscriber in subscribers:
                subscriber.fail(error)
