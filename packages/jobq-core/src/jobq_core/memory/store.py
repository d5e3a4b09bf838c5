"""`Store`: the data behind the memory storages of one name, and the moves of jobs between states.

Every method is called with the lock held, and computes what can fail before it changes anything. Changes name the
topics that they concern; the storage notifies the subscriptions to them after it has released the lock.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID

from jobq_core.local_notifier import LocalNotifier
from jobq_core.memory.due_jobs import DueJobs
from jobq_core.memory.rows import Queue, Row, WorkerRow
from jobq_core.states import FINISHED, JobState
from jobq_core.storage import FINISHED_TOPIC, REQUEST_TOPIC, WAITING_TOPIC
from jobq_core.timestamps import SECOND

TIMED: Final = frozenset({JobState.SCHEDULED, JobState.BLOCKED})
"""The states that end at a time."""


class Clock:
    """The storage's time in whole microseconds.

    time_of_day: returns seconds since 1970 (default: time.time). Leases go by it too if it is given, else by
        time.monotonic: the time of day may be set while workers run, and must not end or prolong their leases.
    """

    def __init__(self, time_of_day: Callable[[], float] | None) -> None:
        self.time_of_day = time_of_day or time.time
        self._monotonic = time_of_day or time.monotonic

    def now(self) -> int:
        """Return microseconds since 1970."""
        return round(self.time_of_day() * SECOND)

    def steady(self) -> int:
        """Return microseconds of the clock that leases go by."""
        return round(self._monotonic() * SECOND)


class Store:
    """Jobs, queues and workers.

    notifiers: of the storage objects on these data that have subscriptions.
    topics: those that the present transaction concerns.
    running: the PROCESSING jobs by their lease.
    leader: the worker that leads the maintenance, and the steady moment at which its lease ends.
    """

    def __init__(self, clock: Callable[[], float] | None) -> None:
        self.clock = Clock(clock)
        self.lock = threading.Lock()
        self.notifiers: set[LocalNotifier] = set()
        self.topics: set[str] = set()
        self.jobs: dict[UUID, Row] = {}
        self.queues: dict[str, Queue] = {}
        self.running: dict[int, Row] = {}
        self.due = DueJobs()
        self.workers: dict[UUID, WorkerRow] = {}
        self.leader: tuple[UUID | None, int] = (None, 0)
        self.leases: Iterator[int] = itertools.count(1)
        self._tokens = itertools.count(1)

    def queue(self, name: str) -> Queue:
        """Return a queue, made if there is none."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = Queue(name)
        return queue

    def held(self, job: UUID, lease: int) -> Row | None:
        """Return the job that is PROCESSING under this lease; None if the lease is over or another job's."""
        row = self.running.get(lease)
        return row if row is not None and row.job.id == job else None

    def is_alive(self, worker: UUID) -> bool:
        """Return whether a worker is registered and its heartbeat has not expired."""
        row = self.workers.get(worker)
        return row is not None and row.lost_at > self.clock.steady()

    # Moves between states

    def enter(self, row: Row, state: JobState) -> None:
        """Put a row that is in no collection at the end of that of a state; not for PROCESSING."""
        row.state = state
        row.token = next(self._tokens)
        queue = row.queue
        if state is JobState.PENDING:
            row.bucket = queue.line(row.job.priority)
            self.topics.add(queue.topic)
        else:
            row.bucket = queue.buckets[state]
            if state in TIMED:
                self.due.add(row)
                self.topics.add(WAITING_TOPIC)
            else:
                self.topics.add(FINISHED_TOPIC)
                if row.job.unique_key is not None and state in FINISHED:
                    queue.keys.pop(row.job.unique_key, None)
        row.bucket[row.token] = row

    def leave(self, row: Row) -> None:
        """Take a row from its collection; the lease of a running one ends."""
        if row.state is JobState.PROCESSING:
            assert row.lease is not None
            del self.running[row.lease]
            row.request = None
            return
        assert row.bucket is not None
        del row.bucket[row.token]
        row.token = 0
        if row.state in TIMED:
            self.due.remove_one()

    def move(self, row: Row, state: JobState) -> None:
        """Take a row from its collection to the end of that of a state."""
        self.leave(row)
        self.enter(row, state)

    def free(self, row: Row) -> None:
        """Make a job PENDING, at the end of its line."""
        self.move(row, JobState.PENDING)
        row.reason = None

    def finish(self, row: Row, state: JobState, now: int, reason: str | None) -> None:
        """End a job otherwise than by a settlement."""
        self.move(row, state)
        row.finished_at = now
        row.reason = reason

    def drop(self, row: Row) -> None:
        """Remove a job."""
        self.topics.add(FINISHED_TOPIC)
        if row.state is JobState.PROCESSING:
            self.topics.add(REQUEST_TOPIC)
        self.leave(row)
        del self.jobs[row.job.id]
        if row.job.unique_key is not None and row.state not in FINISHED:
            del row.queue.keys[row.job.unique_key]
