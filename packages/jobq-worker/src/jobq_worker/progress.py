"""Progress reports on their way to the storage: the last one of each job, all jobs in one call, ten times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from jobq_core.events import EventSource, JobProgressed
from jobq_core.records import Progress
from jobq_core.storage import ProgressReport, QueueStorage
from jobq_worker.outages import Outages
from jobq_worker.registration import Registration
from jobq_worker.run import Run

INTERVAL: Final = 0.1
"""Seconds between two writes at least."""


class Reporter:
    """Takes reports from any thread and writes them from the loop. on_lost: called when a report's lease was over."""

    def __init__(
        self,
        storage: QueueStorage,
        registration: Registration,
        events: EventSource,
        outages: Outages,
        on_lost: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._storage = storage
        self._registration = registration
        self._events = events
        self._outages = outages
        self._on_lost = on_lost
        self._latest: dict[int, tuple[Run, Progress]] = {}
        self._rung = False
        self._bell = asyncio.Event()

    def report(self, run: Run, progress: Progress) -> None:
        """Keep the report for the next write; may be called from any thread."""
        if run.over:
            return  # nobody would see it: the run has been settled
        self._latest[run.job.lease] = (run, progress)
        if not self._rung:
            self._rung = True
            try:
                self._loop.call_soon_threadsafe(self._bell.set)
            except RuntimeError:
                return  # the loop is closed, and the job handed back: the report has no reader

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            # Cleared before looking: a report that comes meanwhile rings again.
            self._rung = False
            try:
                await self._write()
            except Exception as error:  # noqa: BLE001  (logged by Outages; this loop never ends by itself)
                self._bell.set()
                await asyncio.sleep(self._outages.record_failure("progress", error))
            await asyncio.sleep(INTERVAL)

    async def _write(self) -> None:
        latest = self._latest.copy()
        reports = [
            ProgressReport(id=run.job.id, lease=lease, progress=progress)
            for lease, (run, progress) in latest.items()
            if not run.over
        ]
        held = await self._storage.progress(self._registration.id, reports) if reports else []
        self._outages.record_success("progress")
        for lease, entry in latest.items():
            if self._latest.get(lease) is entry:
                del self._latest[lease]
        if not all(held):
            self._on_lost()
        if self._events.wants(JobProgressed):
            for report, stands in zip(reports, held, strict=True):
                if stands:
                    self._tell(latest[report.lease][0], report.progress)

    def _tell(self, run: Run, progress: Progress) -> None:
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
