"""`DueJobs`: the jobs that wait for a time, earliest first."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from jobq_core.memory.rows import Row


class DueJobs:
    """A heap of jobs by a moment (their `run_at`, or their deadline), and at the same moment in the order of arrival.

    A job that stops waiting changes its token, and one that is rescheduled its moment: it leaves its entry behind. Such
    entries are skipped, and removed when they are more than half of all.

    moment_of: returns the present moment of a job, in microseconds since 1970.
    """

    def __init__(self, moment_of: Callable[[Row], int | None]) -> None:
        self._moment_of = moment_of
        self._heap: list[tuple[int, int, Row]] = []
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, row: Row, at: int) -> None:
        """Add a job that begins to wait under its present token. at: its moment."""
        heapq.heappush(self._heap, (at, row.token, row))
        self._waiting += 1

    def remove_one(self) -> None:
        """Take note that a job stopped waiting: its token or its moment is another now."""
        self._waiting -= 1
        if len(self._heap) > 2 * self._waiting + 64:
            present = {token: (at, token, row) for at, token, row in self._heap if self._is_present(at, token, row)}
            self._heap = list(present.values())
            heapq.heapify(self._heap)

    def first(self) -> tuple[int, Row] | None:
        """Return the earliest moment and its job; None if no job waits."""
        while self._heap:
            at, token, row = self._heap[0]
            if self._is_present(at, token, row):
                return at, row
            heapq.heappop(self._heap)
        return None

    def _is_present(self, at: int, token: int, row: Row) -> bool:
        return row.token == token and self._moment_of(row) == at
