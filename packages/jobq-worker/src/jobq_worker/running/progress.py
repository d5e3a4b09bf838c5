"""Progress reports on their way to the storage: the last one of each job, in one call, at most ten times a second.

The last report of a run that ends before it was written is stored with the run's settlement.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from jobq_core.events import EventSource, JobProgressed
from jobq_core.records import Progress
from jobq_core.storage import ProgressReport, QueueStorage
from jobq_worker.liveness.leases import LeaseMonitor
from jobq_worker.liveness.registration import Registration
from jobq_worker.loops import UNTIL_WOKEN, Loop
from jobq_worker.outages import Outages
from jobq_worker.running.run import Run
from jobq_worker.settling.finished import progress_size

WRITE_SECONDS: Final = 0.1
"""Minimum interval between two writes."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of the reports of one call, unless one alone is larger."""


class Reporter:
    """Takes reports from any thread and writes them from the event loop.

    monitor: woken when the lease of a report is over.
    """

    def __init__(
        self,
        storage: QueueStorage,
        registration: Registration,
        events: EventSource,
        outages: Outages,
        monitor: LeaseMonitor,
    ) -> None:
        self._storage = storage
        self._registration = registration
        self._events = events
        self._outages = outages
        self._monitor = monitor
        self._reported: dict[int, Run] = {}
        self.loop = Loop("progress", self._work, outages)

    def report(self, run: Run, progress: Progress) -> None:
        """Keep the report for the next write; may be called from any thread."""
        if run.over:
            return  # the run is settled: its progress is final
        run.progress = progress
        self._reported[run.job.lease] = run
        self.loop.wake_from_thread()

    async def _work(self, woken: bool) -> float:
        await self._write()
        await asyncio.sleep(WRITE_SECONDS)
        return UNTIL_WOKEN

    async def _write(self) -> None:
        waiting = deque(self._reported.copy().values())
        while batch := self._next(waiting):
            reports = [ProgressReport(id=run.job.id, lease=run.job.lease, progress=report) for run, report in batch]
            held = await self._storage.progress(self._registration.id, reports)
            for run, report in batch:
                if run.progress is report:
                    run.progress = None
                    self._reported.pop(run.job.lease, None)
            if not all(held):
                self._monitor.loop.wake()
            if self._events.wants(JobProgressed):
                for (run, report), stands in zip(batch, held, strict=True):
                    if stands:
                        self._emit(run, report)
        self._outages.record_success("progress")

    def _next(self, waiting: deque[Run]) -> list[tuple[Run, Progress]]:
        """Take some of the runs that go on out of `waiting`, with their reports: at most BATCH_BYTES."""
        batch: list[tuple[Run, Progress]] = []
        size = 0
        while waiting:
            run = waiting[0]
            report = run.progress
            if run.over or report is None:
                self._reported.pop(run.job.lease, None)
            else:
                size += progress_size(report)
                if batch and size > BATCH_BYTES:
                    break
                batch.append((run, report))
            waiting.popleft()
        return batch

    def _emit(self, run: Run, progress: Progress) -> None:
        job = run.job
        self._events.emit(
            JobProgressed(
                job_id=job.id,
                kind=job.kind,
                queue=job.queue,
                attempt=job.attempt,
                worker=self._registration.id,
                progress=progress,
            )
        )
