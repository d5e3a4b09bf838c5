"""Helpers that add jobs and wait for their ends, and a stage on which tests and handlers meet."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import pytest

from jobq_core import (
    JobAborted,
    JobCompleted,
    JobDisabled,
    JobFailed,
    JobRecord,
    JobRetried,
    JobState,
    QueueStorage,
    RunEvent,
)
from jobq_core.adding import AddOptions, new_job
from jobq_core.ids import new_id
from jobq_worker import JobQueueWorker
from jobq_worker.claiming import fetcher, prefetch

ENDINGS = (JobCompleted, JobFailed, JobRetried, JobAborted, JobDisabled)


async def add(storage: QueueStorage, job: Any, **options: Any) -> UUID:
    """Add one job, as a client would."""
    [job_id] = await add_many(storage, [job], **options)
    return job_id


async def add_many(storage: QueueStorage, jobs: Sequence[Any], **options: Any) -> list[UUID]:
    """Add several jobs at once."""
    made = [new_job(new_id(), job, "default", cast("AddOptions", options)) for job in jobs]
    return [added.id for added in await storage.add(made)]


async def record(storage: QueueStorage, job_id: UUID) -> JobRecord:
    """Read a job that must be there."""
    [found] = await storage.get([job_id])
    assert found is not None, f"no job {job_id}"
    return found


async def state(storage: QueueStorage, job_id: UUID) -> JobState:
    """Read a job's state."""
    return (await record(storage, job_id)).state


@asynccontextmanager
async def working(storage: QueueStorage, *jobs: Any, **options: Any) -> AsyncIterator[JobQueueWorker]:
    """Run a worker for these jobs; at the end it is stopped, at once."""
    worker = JobQueueWorker(storage, jobs=jobs, **options)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop(0)


class Endings:
    """The endings of runs, by job, from its making on."""

    def __init__(self, worker: JobQueueWorker) -> None:
        self._stream = worker.events(*ENDINGS)
        self._seen: list[RunEvent] = []

    async def of(self, job_id: UUID, number: int = 1) -> RunEvent:
        """Wait for the n-th ending of a run of this job."""
        while True:
            mine = [event for event in self._seen if event.job_id == job_id]
            if len(mine) >= number:
                return mine[number - 1]
            self._seen.append(await anext(self._stream))

    async def all(self, ids: Sequence[UUID]) -> list[RunEvent]:
        """Wait for the first ending of each of these jobs."""
        return [await self.of(job_id) for job_id in ids]


async def ending(worker: JobQueueWorker, storage: QueueStorage, job: Any, **options: Any) -> RunEvent:
    """Add a job and wait for how its first run ends."""
    endings = Endings(worker)
    return await endings.of(await add(storage, job, **options))


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds that nothing announces; it may be a coroutine function."""
    while True:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        await asyncio.sleep(0.001)


def pass_time(seconds: float) -> None:
    """Let this many seconds pass for the running event loop: its timers up to then are due."""
    loop = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + seconds  # type: ignore[method-assign]


def prefetch_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers prefetch after the first runs, however long these took, and keep what they prefetched, so that a
    machine that stands still for a moment changes neither."""
    monkeypatch.setattr(prefetch, "LONGEST_SECONDS", float("inf"))
    monkeypatch.setattr(prefetch, "AHEAD_SECONDS", 5000.0)
    monkeypatch.setattr(fetcher, "STALE_SECONDS", 600.0)


class Stage:
    """What a test and its handlers tell each other: `reach` a point, wait until it is `reached`, from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._points: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._gates: dict[str, threading.Event] = defaultdict(threading.Event)
        self.notes: list[Any] = []

    def reach(self, point: str) -> None:
        """Say that this point was reached."""
        self._gates[point].set()
        self._loop.call_soon_threadsafe(self._points[point].set)

    async def reached(self, point: str) -> None:
        """Wait on the loop until the point is reached."""
        await self._points[point].wait()

    def wait(self, point: str) -> None:
        """Wait in a thread until the point is reached."""
        assert self._gates[point].wait(30), f"{point!r} was not reached in 30 s"
