"""`DirectAdds`: threads add jobs by the storage's `SyncProducer`, without a turn of the portal's event loop.

    thread ─┐
    thread ─┼─► one of them sends what all wait for ─► SyncProducer
    thread ─┘

It adds what is sure to be added at once. What is not (an outage, a job that the storage refuses) is left to the portal,
whose `GroupCommit` retries, and finds which job is refused: the storage recognizes a job that is sent again by its id.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from jobq_client.group_commit import LEAST_SECONDS, MAX_BYTES, MAX_JOBS
from jobq_core.errors import JobQueueError, StorageUnavailableError
from jobq_core.storage import Added, NewJob, SyncProducer

RETRY_SECONDS: Final = 1.0
"""Time after an error during which all jobs are left to the portal."""


class _Entry:
    """One job, and its answer: None if the job is left to the portal."""

    __slots__ = ("added", "done", "job", "late")

    def __init__(self, job: NewJob) -> None:
        self.job = job
        self.added: Added | None = None
        self.done = False
        self.late = False


class DirectAdds:
    """Groups the adds of threads: the one that gets the lock sends the jobs of all, and the others find them sent.

    patience: seconds that the storage has to answer, but at least one. now: the clock.
    """

    def __init__(self, producer: SyncProducer, patience: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._producer = producer
        self._timeout = max(patience, LEAST_SECONDS)
        self._lock = threading.Lock()
        self._waiting: deque[_Entry] = deque()
        self._closed = False
        self._not_before = float("-inf")

    def add(self, job: NewJob) -> Added | None:
        """Add a job, or return None if it is left to the portal, which may have to find out whether it was added.

        Raises StorageUnavailableError if the storage does not answer in time.
        """
        if self._now() < self._not_before:
            return None
        entry = _Entry(job)
        self._waiting.append(entry)
        with self._lock:
            while not entry.done and self._waiting:  # a sender that was interrupted may have taken it
                self._send(self._take())
        if entry.late:
            raise StorageUnavailableError(
                f"job {job.id} may or may not have been added: the storage did not answer within {self._timeout:g} s"
            )
        return entry.added

    def close(self) -> None:
        """Wait for the add under way, and close the producer. Later adds are left to the portal."""
        with self._lock:
            self._closed = True
            self._producer.close()

    def _take(self) -> list[_Entry]:
        group = [self._waiting.popleft()]
        size = len(group[0].job.arguments)
        while self._waiting and len(group) < MAX_JOBS:
            size += len(self._waiting[0].job.arguments)
            if size > MAX_BYTES:
                break
            group.append(self._waiting.popleft())
        return group

    def _send(self, group: list[_Entry]) -> None:
        began = self._now()
        try:
            if self._closed:
                return
            answers = self._producer.add([entry.job for entry in group], timeout=self._timeout)
            if answers is not None:
                for entry, added in zip(group, answers, strict=True):
                    entry.added = added
        except JobQueueError:
            now = self._now()
            self._not_before = now + RETRY_SECONDS
            for entry in group:
                entry.late = now - began >= self._timeout
        finally:
            for entry in group:
                entry.done = True
