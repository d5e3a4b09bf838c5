"""`Retirement`: when a worker that `run` serves ends by itself: queues empty, enough jobs, too much memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Final, Self

from jobq_core.events import EventSource, JobStarted
from jobq_worker.options import WorkerOptions
from jobq_worker.sizes import resident_bytes

CHECK_SECONDS: Final = 1.0
"""Interval between two readings of the process's memory."""
POLLS: Final = 1.6
"""Poll intervals that a worker must have been idle for with `burst`: a poll of all queues falls in each 1.5 of them."""


class Retired(Enum):
    """Why a worker ended by itself."""

    EMPTY = "its queues are empty"
    MAX_JOBS = "it has started max_jobs jobs"
    MAX_MEMORY = "its memory is above max_memory"
    DRAINED = "an operator asked it to drain"


class Retirement:
    """Waits, inside `with`, until the worker must end. Costs nothing per job without max_jobs and burst.

    events: the worker's. stop_claiming: called inside the start of job number max_jobs, so that no other starts.
    """

    def __init__(
        self,
        options: WorkerOptions,
        events: EventSource,
        stop_claiming: Callable[[], None],
        memory: Callable[[], int] = resident_bytes,
    ) -> None:
        self._options = options
        self._events = events
        self._stop_claiming = stop_claiming
        self._memory = memory
        self._started = 0
        self._enough = asyncio.Event()
        self._idle_since: tuple[float, int] | None = None
        self._cancel: Callable[[], None] = lambda: None

    @property
    def is_possible(self) -> bool:
        """Whether any option makes the worker end by itself."""
        options = self._options
        return options.burst or options.max_jobs is not None or options.max_memory is not None

    async def wait(self, is_idle: Callable[[], bool]) -> Retired:
        """Wait until the worker must end, and return why. is_idle: whether it has no job and knows of none."""
        while True:
            if self._enough.is_set():
                return Retired.MAX_JOBS
            if self._options.max_memory is not None and self._memory() > self._options.max_memory:
                return Retired.MAX_MEMORY
            if self._options.burst and self._is_empty(is_idle()):
                return Retired.EMPTY
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval()):
                    await self._enough.wait()

    def _interval(self) -> float | None:
        wanted = []
        if self._options.burst:
            wanted.append(self._options.poll_interval / 2)
        if self._options.max_memory is not None:
            wanted.append(CHECK_SECONDS)
        return min(wanted, default=None)

    def _is_empty(self, idle: bool) -> bool:
        """Return whether the worker has been idle since a poll of all its queues began."""
        now = asyncio.get_running_loop().time()
        if not idle or self._idle_since is None or self._idle_since[1] != self._started:
            self._idle_since = (now, self._started) if idle else None
            return False
        return now - self._idle_since[0] >= POLLS * self._options.poll_interval

    def _count(self, _: JobStarted) -> None:
        self._started += 1
        if self._started == self._options.max_jobs:
            self._stop_claiming()
            self._enough.set()

    def __enter__(self) -> Self:
        if self._options.burst or self._options.max_jobs is not None:
            self._cancel = self._events.on(JobStarted, self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cancel()
