"""The data behind the memory storages of one name: places, and the moves of jobs between them.

Every method is called with the lock held, computes what can fail before it changes anything, and notes in `rings` whom
the change concerns; the storage rings for them when the lock is free again.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID

from jobq_core.memory.notifier import Bell
from jobq_core.memory.rows import Queue, Row, WorkerRow
from jobq_core.states import FINISHED, JobState
from jobq_core.storage import FINISHED_TOPIC, REQUEST_TOPIC, WAITING_TOPIC
from jobq_core.timestamps import SECOND

TIMED: Final = frozenset({JobState.SCHEDULED, JobState.BLOCKED})
"""The states that end by themselves, when a time has come."""


class Store:
    """Jobs, queues and workers. `due` is a heap of what waits for a time; entries whose token is over are passed by."""

    def __init__(self, clock: Callable[[], float] | None) -> None:
        self.clock = clock or time.time
        # The time of day may be set while workers run; whether they live must not depend on it.
        self._steady = clock or time.monotonic
        self.lock = threading.Lock()
        self.bell = Bell()
        self.rings: set[str] = set()
        self.jobs: dict[UUID, Row] = {}
        self.queues: dict[str, Queue] = {}
        self.running: dict[int, Row] = {}
        self.keys: dict[tuple[str, str], UUID] = {}
        self.due: list[tuple[int, int, Row]] = []
        self.timed = 0
        self.workers: dict[UUID, WorkerRow] = {}
        self.leader: UUID | None = None
        self.leader_until = 0
        self.leases: Iterator[int] = itertools.count(1)
        self._tokens = itertools.count(1)

    def now(self) -> int:
        """Return the storage's clock."""
        return round(self.clock() * SECOND)

    def steady(self) -> int:
        """Return the clock that leases go by, in microseconds: nobody sets it."""
        return round(self._steady() * SECOND)

    def queue(self, name: str) -> Queue:
        """Return a queue, a new one if need be."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = Queue(name)
        return queue

    def enter(self, row: Row, state: JobState) -> None:
        """Put a row that is nowhere at the end of where jobs of this state are; not for PROCESSING."""
        row.state = state
        token = row.token = next(self._tokens)
        queue = row.queue
        if state is JobState.PENDING:
            place = queue.line(row.asked.priority)
            self.rings.add(queue.topic)
        else:
            place = queue.places[state]
            if state in TIMED:
                assert row.run_at is not None
                heapq.heappush(self.due, (row.run_at, token, row))
                self.timed += 1
                self.rings.add(WAITING_TOPIC)
            else:
                self.rings.add(FINISHED_TOPIC)
                if row.asked.unique_key is not None and state in FINISHED:
                    self.keys.pop((queue.name, row.asked.unique_key), None)
        row.place = place
        place[token] = row

    def leave(self, row: Row) -> None:
        """Take a row from where it is; a running one's lease is over."""
        if row.state is JobState.PROCESSING:
            assert row.lease is not None
            del self.running[row.lease]
            row.request = None
            return
        assert row.place is not None
        del row.place[row.token]
        row.token = 0
        if row.state in TIMED:
            self.timed -= 1
            if len(self.due) > 2 * self.timed + 64:
                self.due = [entry for entry in self.due if entry[2].token == entry[1]]
                heapq.heapify(self.due)

    def move(self, row: Row, state: JobState) -> None:
        """Take a row from where it is to the end of where jobs of this state are."""
        self.leave(row)
        self.enter(row, state)

    def finish(self, row: Row, state: JobState, now: int, reason: str | None) -> None:
        """End a job that is not running any more by its own settlement."""
        self.move(row, state)
        row.finished_at = now
        row.reason = reason

    def drop(self, row: Row) -> None:
        """Forget a job altogether."""
        self.rings.add(FINISHED_TOPIC)
        if row.state is JobState.PROCESSING:
            self.rings.add(REQUEST_TOPIC)
        self.leave(row)
        del self.jobs[row.asked.id]
        if row.asked.unique_key is not None and row.state not in FINISHED:
            del self.keys[row.queue.name, row.asked.unique_key]
