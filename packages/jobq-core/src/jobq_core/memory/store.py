"""`Store`: the data behind the memory storages of one name, and the moves of jobs between states.

Every method is called with the lock held, and computes what can fail before it changes anything. Changes name the
topics that they concern; the storage notifies the subscriptions to them after it has released the lock.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Final
from uuid import UUID

from jobq_core.local_notifier import LocalNotifier
from jobq_core.memory.depth_samples import DepthSamples
from jobq_core.memory.due_jobs import DueJobs
from jobq_core.memory.rows import Queue, Row, WorkerRow
from jobq_core.memory.tally import Tally
from jobq_core.states import FINISHED, JobState
from jobq_core.storage import (
    ENDED_TOPIC,
    FINISHED_TOPIC,
    GATED,
    REQUEST_TOPIC,
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    WAITING_TOPIC,
    AuditEntry,
    EndedJob,
    Operation,
    WorkerRequest,
    blocked_topic,
)
from jobq_core.timestamps import SECOND, to_datetime

TIMED: Final = frozenset({JobState.SCHEDULED, JobState.BLOCKED})
"""The states that may end at a time."""

EXPIRING: Final = TIMED | {JobState.PENDING}
"""The states that a deadline ends."""

SUSPENDED: Final = frozenset({UNKNOWN_KIND, UNFIT_ARGUMENTS})
"""The reasons of BLOCKED jobs that wait for a worker that can take them."""


class Clock:
    """The storage's time in whole microseconds.

    time_of_day: returns seconds since 1970 (default: time.time).
    monotonic: returns the seconds that leases go by (default: `time_of_day` if that is given, else time.monotonic: the
        time of day may be set while workers run, and must not end or prolong their leases).
    """

    def __init__(
        self, time_of_day: Callable[[], float] | None = None, monotonic: Callable[[], float] | None = None
    ) -> None:
        self.time_of_day = time_of_day or time.time
        self._monotonic = monotonic or time_of_day or time.monotonic

    def now(self) -> int:
        """Return microseconds since 1970."""
        return round(self.time_of_day() * SECOND)

    def steady(self) -> int:
        """Return microseconds of the clock that leases go by."""
        return round(self._monotonic() * SECOND)


class Store:
    """Jobs, queues and workers.

    It has more than 12 attributes since each collection is one.

    takes_connections: whether operations ignore a `connection` instead of refusing it.
    notifiers: of the storage objects on these data that have subscriptions.
    topics: those that the present transaction concerns.
    running: the PROCESSING jobs by their lease.
    due, deadlines: the jobs that wait for a time, and those that a deadline ends.
    ended: the ends of followed jobs, until they are resolved.
    leader: the worker that leads the maintenance, and the steady moment at which its lease ends.
    """

    def __init__(self, clock: Clock, *, takes_connections: bool = False) -> None:
        self.clock = clock
        self.takes_connections = takes_connections
        self.lock = threading.Lock()
        self.notifiers: set[LocalNotifier] = set()
        self.topics: set[str] = set()
        self.jobs: dict[UUID, Row] = {}
        self.queues: dict[str, Queue] = {}
        self.running: dict[int, Row] = {}
        self.due = DueJobs(attrgetter("run_at"))
        self.deadlines = DueJobs(attrgetter("deadline"))
        self.ended: deque[EndedJob] = deque()
        self.tally = Tally()
        self.depths = DepthSamples()
        self.workers: dict[UUID, WorkerRow] = {}
        self.requests: dict[UUID, WorkerRequest] = {}
        self.operations: dict[UUID, Operation] = {}
        self.audit: dict[UUID, AuditEntry] = {}
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
        return row if row is not None and (row.job.id is job or row.job.id == job) else None

    def is_alive(self, worker: UUID) -> bool:
        """Return whether a worker is registered and its heartbeat has not expired."""
        row = self.workers.get(worker)
        return row is not None and row.lost_at > self.clock.steady()

    # Moves between states

    def enter(self, row: Row, state: JobState, now: int, reason: str | None = None, *, returned: bool = False) -> None:
        """Put a row that is in no collection at the end of that of a state; not for PROCESSING.

        returned: whether a PENDING job goes to the returned line.
        """
        queue = row.queue
        row.state, row.since, row.reason, row.token = state, now, reason, next(self._tokens)
        if state is JobState.PENDING:
            row.bucket = queue.returned if returned else queue.line(row.job.priority)
            self.topics.add(queue.topic)
        else:
            row.bucket = queue.buckets[state]
            if state in TIMED:
                self._wait(row)
            else:
                self._end(row, now)
        if row.deadline is not None and state in EXPIRING:
            self.deadlines.add(row, row.deadline)
        row.bucket[row.token] = row

    def _wait(self, row: Row) -> None:
        self.topics.add(WAITING_TOPIC)
        if row.run_at is not None:
            self.due.add(row, row.run_at)
        if _is_suspended(row):
            self._suspend(row)

    def _suspend(self, row: Row) -> None:
        row.queue.suspended.setdefault(row.job.kind, OrderedDict())[row.token] = row
        self.topics.add(blocked_topic(row.queue.name))

    def _unsuspend(self, row: Row) -> None:
        kind = row.queue.suspended[row.job.kind]
        del kind[row.token]
        if not kind:
            del row.queue.suspended[row.job.kind]

    def _end(self, row: Row, now: int) -> None:
        self.topics.add(FINISHED_TOPIC)
        if row.state in FINISHED:
            row.finished_at = now
            self._let_go(row, row.state, now)

    def _let_go(self, row: Row, state: JobState | None, now: int) -> None:
        """Free the unique key of a job that ended, and keep its end if it is followed. state: None if it is deleted."""
        if row.job.unique_key is not None:
            self.queues[row.job.queue].keys.pop(row.job.unique_key, None)
        failed = row.failed_job() if state is JobState.FAILED and row.job.follow_up is not None else None
        if failed is not None:
            self.topics.add(ENDED_TOPIC)
        if failed is not None or row.job.followed:
            self.ended.append(EndedJob(row.job.id, row.queue.name, state, to_datetime(now), failed))

    def leave(self, row: Row) -> None:
        """Take a row from its collection; the lease of a running one ends."""
        if row.state is JobState.PROCESSING:
            assert row.lease is not None
            del self.running[row.lease]
            row.request = None
            return
        assert row.bucket is not None
        del row.bucket[row.token]
        if _is_suspended(row):
            self._unsuspend(row)
        row.token = 0
        if row.state in TIMED and row.run_at is not None:
            self.due.remove_one()
        if row.deadline is not None and row.state in EXPIRING:
            self.deadlines.remove_one()

    def move(self, row: Row, state: JobState, now: int, reason: str | None = None, *, returned: bool = False) -> None:
        """Take a row from its collection to the end of that of a state; a finished job ends now, and is counted."""
        ran = row.state is JobState.PROCESSING
        self.leave(row)
        self.enter(row, state, now, reason, returned=returned)
        if state in FINISHED:
            self.tally.count(row, now, ran=ran)

    def complete(self, row: Row, now: int) -> None:
        """Move a PROCESSING row to COMPLETED, as `move` does at more cost: most runs end so."""
        assert row.lease is not None
        del self.running[row.lease]
        row.request = row.reason = None
        row.state, row.since, row.token = JobState.COMPLETED, now, next(self._tokens)
        bucket = row.bucket = row.queue.buckets[JobState.COMPLETED]
        bucket[row.token] = row
        if row.job.unique_key is not None or row.job.followed:
            self._end(row, now)
        else:
            row.finished_at = now
            self.topics.add(FINISHED_TOPIC)
        self.tally.count(row, now, ran=True)

    def transfer(self, row: Row, queue: Queue) -> None:
        """Move a job that waits or is PENDING to another queue. What it waits for stays."""
        if row.state is JobState.PENDING:
            self.leave(row)
            row.queue = queue
            self.enter(row, JobState.PENDING, row.since)
            return
        assert row.bucket is not None
        del row.bucket[row.token]
        if _is_suspended(row):
            self._unsuspend(row)
        row.queue, row.bucket = queue, queue.buckets[row.state]
        row.bucket[row.token] = row
        if _is_suspended(row):
            self._suspend(row)

    def reschedule(self, row: Row, run_at: int) -> None:
        """Have a SCHEDULED job wait until another moment. Its place among those of the same moment stays."""
        assert row.run_at is not None
        before, row.run_at, row.reason = row.run_at, run_at, "delayed"
        if run_at != before:
            self.due.remove_one()
            self.due.add(row, run_at)
        self.topics.add(WAITING_TOPIC)

    def free(self, row: Row, now: int, *, returned: bool = False) -> None:
        """Make a job PENDING, at the end of its line; a gated one BLOCKED."""
        self.leave(row)
        if row.job.gated:
            row.run_at = None
            self.enter(row, JobState.BLOCKED, now, GATED)
        else:
            self.enter(row, JobState.PENDING, now, returned=returned)

    def drop(self, row: Row, now: int) -> None:
        """Remove a job."""
        self.topics.add(FINISHED_TOPIC)
        if row.state is JobState.PROCESSING:
            self.topics.add(REQUEST_TOPIC)
        self.leave(row)
        del self.jobs[row.job.id]
        if row.state not in FINISHED:
            self._let_go(row, None, now)


def _is_suspended(row: Row) -> bool:
    return row.state is JobState.BLOCKED and row.reason in SUSPENDED
