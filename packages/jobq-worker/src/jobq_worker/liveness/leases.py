"""The leases of runs: marking in the storage that a run starts, and checking whether a run may go on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from jobq_core.events import EventSource, JobAborting
from jobq_core.states import StopRequest
from jobq_core.storage import QueueStorage
from jobq_worker.liveness.registration import Registration
from jobq_worker.loops import UNTIL_WOKEN, Loop
from jobq_worker.outages import Outages
from jobq_worker.running.pipeline import Pipeline
from jobq_worker.running.run import Run, Stop, log_fields

logger = logging.getLogger("jobq.worker")

CHECK_SECONDS: Final = 1.0
"""Interval between two checks of the leases while jobs run and no notification comes."""
YOUNG_SECONDS: Final = 0.5
"""Minimum age of a run before its lease is checked without a notification. Shorter jobs are never checked."""

_STOPS = {StopRequest.ABORT: Stop.ABORT, StopRequest.DISABLE: Stop.DISABLE}


class LeaseMonitor:
    """Asks the storage about the leases of this worker: when it is woken, and every second.

    Runs whose lease is over, or whose job is to be aborted or disabled, are stopped.
    """

    def __init__(
        self,
        storage: QueueStorage,
        registration: Registration,
        pipeline: Pipeline,
        outages: Outages,
        events: EventSource,
    ) -> None:
        self._storage = storage
        self._registration = registration
        self._pipeline = pipeline
        self._outages = outages
        self._events = events
        self.loop = Loop("leases", self._work, outages)

    async def _work(self, woken: bool) -> float:
        await self.check(0.0 if woken else YOUNG_SECONDS)
        self._outages.record_success("leases")
        return CHECK_SECONDS

    async def check(self, min_age: float = 0.0) -> None:
        """Check the claimed and running jobs that are at least `min_age` seconds old, and stop those that must stop."""
        before = self._pipeline.now() - min_age
        here = [*self._pipeline.claimed, *self._pipeline.running]
        runs = [run for run in here if run.taken_at <= before and not run.over and run.stop is not Stop.LOST]
        if not runs:
            return
        leases = [(run.job.id, run.job.lease) for run in runs]
        for run, status in zip(runs, await self._storage.check_leases(self._registration.id, leases), strict=True):
            if run.over or (run.slot is not None and run not in self._pipeline.running):
                continue  # it ended while the storage was asked
            if not status.held:
                if run.written is None:  # or else it has perhaps completed
                    self._stop_lost(run)
            elif status.request is not None:
                self._stop_asked(run, status.request)

    def _stop_lost(self, run: Run) -> None:
        job = run.job
        logger.warning(
            "LeaseLostError: the lease of job %s (%s) is over; its run is stopped",
            job.id,
            job.kind,
            extra=log_fields(job),
        )
        self._pipeline.stop(run, Stop.LOST)

    def _stop_asked(self, run: Run, request: StopRequest) -> None:
        job = run.job
        runs_on = run.slot is not None and run.stop is None
        if runs_on and request is StopRequest.ABORT and self._events.wants(JobAborting):
            worker = self._registration.id
            self._events.emit(
                JobAborting(job_id=job.id, kind=job.kind, queue=job.queue, attempt=job.attempt, worker=worker)
            )
        self._pipeline.stop(run, _STOPS[request])


class StartMarks:
    """Marks in the storage that runs start, where a job needs it (see `ClaimedJob.needs_start_mark`).

    Runs that wait while one call is under way share the next call.
    """

    def __init__(self, storage: QueueStorage, registration: Registration, outages: Outages) -> None:
        self._storage = storage
        self._registration = registration
        self._outages = outages
        self._waiting: list[tuple[Run, Callable[[Run, bool], None]]] = []
        self.loop = Loop("start marks", self._work, outages)

    def ask(self, run: Run, answered: Callable[[Run, bool], None]) -> None:
        """Mark that a run starts. answered: called with the run and whether its lease stands, unless it is over."""
        self._waiting.append((run, answered))
        self.loop.wake()

    async def _work(self, woken: bool) -> float:
        while self._waiting:
            await self._mark()
        self._outages.record_success("start marks")
        return UNTIL_WOKEN

    async def _mark(self) -> None:
        asked = [entry for entry in self._waiting if not entry[0].over]
        self._waiting = []
        if not asked:
            return
        leases = [(run.job.id, run.job.lease) for run, _ in asked]
        try:
            held = await self._storage.mark_started(self._registration.id, leases)
        except BaseException:
            self._waiting[:0] = asked
            raise
        for (run, answered), stands in zip(asked, held, strict=True):
            if not run.over:
                answered(run, stands)
