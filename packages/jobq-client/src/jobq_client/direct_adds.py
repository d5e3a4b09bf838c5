"""`DirectAdds`: threads add jobs by the storage's `SyncProducer`, without a turn of the portal's event loop.

    thread ─┐
    thread ─┼─► one of them sends what all wait for ─► SyncProducer
    thread ─┘

It adds what is sure to be added at once. What is not (an outage, a job that the storage refuses) is left to the portal,
whose `GroupCommit` retries, and finds which job is refused: the storage recognizes a job that is sent again by its id.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from jobq_client.group_commit import LEAST_SECONDS, MAX_BYTES, MAX_JOBS
from jobq_core.errors import JobQueueError, StorageUnavailableError
from jobq_core.storage import Added, NewJob, SyncProducer

RETRY_SECONDS: Final = 1.0
"""Time after an error during which all jobs are left to the portal."""
GATHER_SECONDS: Final = 100e-6
"""Maximum time, per thread that adds, that a group waits for the next jobs of these threads."""


class _Entry:
    """One job, and its answer: None if the job is left to the portal.

    turn: has an item when the answer is there, or when this thread is to send.
    """

    __slots__ = ("added", "done", "job", "late", "turn")

    def __init__(self, job: NewJob) -> None:
        self.job = job
        self.added: Added | None = None
        self.done = False
        self.late = False
        self.turn: queue.SimpleQueue[None] = queue.SimpleQueue()


class DirectAdds:
    """Groups the adds of threads: the one that gets the lock sends the jobs of all, and the others wait for their turn.

    patience: seconds that the storage has to answer, but at least one. now: the clock.
    """

    def __init__(self, producer: SyncProducer, patience: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._producer = producer
        self._timeout = max(patience, LEAST_SECONDS)
        self._sending = threading.Lock()
        self._waiting: deque[_Entry] = deque()
        self._closed = False
        self._callers = 0
        self._gathering: _Entry | None = None
        self._not_before = float("-inf")

    def add(self, job: NewJob) -> Added | None:
        """Add a job, or return None if it is left to the portal, which may have to find out whether it was added.

        Raises StorageUnavailableError if the storage does not answer in time.
        """
        if self._now() < self._not_before:
            return None
        entry = _Entry(job)
        self._waiting.append(entry)
        leader = self._gathering
        if leader is not None and len(self._waiting) >= self._callers:
            leader.turn.put(None)
        try:
            while not entry.done:
                if self._sending.acquire(blocking=False):
                    self._lead(entry)
                else:
                    entry.turn.get()
        except BaseException:
            with suppress(ValueError):  # it was sent
                self._waiting.remove(entry)
            self._pass_on()
            raise
        if entry.late:
            raise StorageUnavailableError(
                f"job {job.id} may or may not have been added: the storage did not answer within {self._timeout:g} s"
            )
        return entry.added

    def close(self) -> None:
        """Wait for the add under way, and close the producer. Later adds are left to the portal."""
        with self._sending:
            self._closed = True
            self._producer.close()
        self._pass_on()

    def _lead(self, own: _Entry) -> None:
        """Send groups until an entry is answered, and let a thread whose job waits lead then. The lock is taken."""
        sent: list[_Entry] = []
        try:
            self._gather(own)
            while not own.done:
                group = self._take()
                sent += group
                self._send(group)
        finally:
            self._sending.release()
            self._pass_on()  # first, as the next group takes longest
            for entry in sent:
                entry.turn.put(None)

    def _gather(self, own: _Entry) -> None:
        """Let the threads whose jobs were sent last add their next ones to this group, if there are several."""
        if len(self._waiting) < self._callers:
            self._gathering = own
            with suppress(queue.Empty):
                while len(self._waiting) < self._callers:
                    own.turn.get(timeout=self._callers * GATHER_SECONDS)
            self._gathering = None

    def _pass_on(self) -> None:
        """Have the first thread that waits try to lead."""
        if self._waiting:
            with suppress(IndexError):  # another thread took it at this moment
                self._waiting[0].turn.put(None)

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
            self._callers = len(group) + len(self._waiting)
