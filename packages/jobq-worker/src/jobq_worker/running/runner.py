"""Starts claimed jobs in free slots.

This is the hot path: it runs once per job, so a job costs no timer, context or event that nothing needs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from jobq_core.errors import UnfitArgumentsError
from jobq_core.events import EventSource, JobStarted
from jobq_core.job import JobDefinition
from jobq_core.storage import UNFIT_ARGUMENTS, UNKNOWN_KIND, Settlement
from jobq_worker.claiming.grants import Grants
from jobq_worker.claiming.refusals import Refusals
from jobq_worker.liveness.leases import StartMarks
from jobq_worker.liveness.registration import Registration
from jobq_worker.running.job_batches import JobBatch
from jobq_worker.running.outcomes import Raised
from jobq_worker.running.pipeline import Pipeline
from jobq_worker.running.run import Handler, Run, Stop, log_fields
from jobq_worker.running.slots import Slot, Slots
from jobq_worker.settling.settlements import past_deadline, settlement_of, suspended

logger = logging.getLogger("jobq.worker")


class Runner:
    """Listens to the pipeline and starts the handlers of its claimed jobs, while the worker counts as alive.

    handlers: by kind. batches: those of the kinds whose jobs run in batches. grants: the starts that the limiter
    granted, if there is one.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        registration: Registration,
        handlers: Mapping[str, Handler],
        batches: Mapping[str, JobDefinition],
        slots: Slots,
        events: EventSource,
        grants: Grants | None,
        start_marks: StartMarks,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipeline = pipeline
        self._finished = pipeline.finished
        self._registration = registration
        # Apart, so that a job that runs alone is not asked whether it runs in a batch.
        self._handlers = {kind: handler for kind, handler in handlers.items() if kind not in batches}
        self._batches = {kind: (handlers[kind], definition) for kind, definition in batches.items()}
        self._slots = slots
        self._events = events
        self._grants = grants
        self._start_marks = start_marks
        self._debug = logger.isEnabledFor(logging.DEBUG)
        self._refusals = Refusals(slots.unknown_kinds, slots.unfit_kinds)
        pipeline.on_change(self._pump)

    def _pump(self) -> None:
        """Start claimed jobs while there are free slots and the leases are certain to stand."""
        claimed, free = self._pipeline.claimed, self._slots.free
        gathering = self._pipeline.gathering
        if not claimed or not (free or gathering) or (self._finished.bytes and self._finished.is_full):
            return
        grants, unstarted = self._grants, False
        while claimed and free and self._registration.is_alive():
            run = claimed.popleft()
            job = run.job
            handler = self._handlers.get(job.kind)
            if handler is None:
                if job.kind in self._batches:
                    if not self._gather(run):
                        return
                else:
                    self._refusals.count_unknown(job.kind)
                    self._pipeline.settle(run, suspended(job, UNKNOWN_KIND))
                    unstarted = True
                continue
            run.handler = handler
            if run.due is not None and run.due <= self._loop.time():
                self._pipeline.settle(run, past_deadline(run))
                unstarted = True
                continue
            try:
                run.arguments = handler.decode(job.arguments)
            except BaseException as error:  # noqa: BLE001  (types of the user's own decode here)
                self._pipeline.settle(run, self._undecodable(run, error))
                unstarted = True
                continue
            if grants is None or grants.take():
                self._start(run, free.pop())
            else:
                claimed.appendleft(run)
                self._pipeline.give_back()
                return
        if gathering and claimed and self._registration.is_alive():
            self._fill_batches()
        if unstarted:
            self._pipeline.changed()

    def _fill_batches(self) -> None:
        """Let the batches that gather take their jobs from behind others, which wait for a slot; if some of those are
        left, let the batches start, so that no slot waits for jobs while jobs wait for a slot."""
        pipeline, gathering = self._pipeline, self._pipeline.gathering
        for _ in range(len(pipeline.claimed)):
            run = pipeline.claimed.popleft()
            if run.job.kind not in gathering:
                pipeline.claimed.append(run)
            elif not self._gather(run):
                return
        if pipeline.claimed and not self._slots.free:
            for batch in list(gathering.values()):
                batch.close()

    def _gather(self, run: Run) -> bool:
        """Put a run into the batch of its kind, which takes a slot if it is new, or settle it; returns False if the
        limiter permits neither this one nor another."""
        handler, definition = self._batches[run.job.kind]
        run.handler = handler
        if run.due is not None and run.due <= self._loop.time():
            self._settle_unstarted(run, past_deadline(run))
            return True
        try:
            run.arguments = handler.decode(run.job.arguments)
        except BaseException as error:  # noqa: BLE001  (types of the user's own decode here)
            self._settle_unstarted(run, self._undecodable(run, error))
            return True
        if self._grants is not None and not self._grants.take():
            self._pipeline.claimed.appendleft(run)
            self._pipeline.give_back()
            return False
        gathering = self._pipeline.gathering
        batch = gathering.get(run.job.kind)
        if batch is None:
            closed = lambda: gathering.pop(definition.kind, None)  # noqa: E731
            batch = gathering[definition.kind] = JobBatch(self._slots.free.pop(), definition, closed)
        batch.enter(run)
        self._start(run, batch)
        return True

    def _settle_unstarted(self, run: Run, settlement: Settlement | None) -> None:
        self._pipeline.settle(run, settlement)
        self._loop.call_soon(self._pipeline.changed)

    def _undecodable(self, run: Run, error: BaseException) -> Settlement | None:
        """Settle a job whose arguments cannot be decoded: they do not fit, or the code of one of their types fails."""
        if not isinstance(error, UnfitArgumentsError):
            return settlement_of(run, Raised(error))
        self._refusals.count_unfit(run.job.kind, error)
        return suspended(run.job, UNFIT_ARGUMENTS, run.handler.declaration)

    def _start(self, run: Run, slot: Slot) -> None:
        pipeline, job = self._pipeline, run.job
        run.slot = slot
        slot.job = job
        pipeline.running[run] = None
        if job.needs_start_mark:
            pipeline.unmarked.add(run)
            self._start_marks.ask(run, self._marked)
        elif self._grants is None:
            self._begin(run)
        else:
            self._start_in_limit(run)

    def _marked(self, run: Run, held: bool) -> None:
        """Start a run whose start the storage was asked to mark, if its lease stands and nothing came in between."""
        if not held:
            self._pipeline.end_before_start(run, Stop.LOST)
        elif self._pipeline.draining or not self._registration.is_alive():
            self._pipeline.end_before_start(run, Stop.RELEASE)
        elif run.due is not None and run.due <= self._loop.time():
            self._pipeline.end_before_start(run, Stop.DEADLINE)
        else:
            self._pipeline.unmarked.discard(run)
            self._start_in_limit(run)

    def _start_in_limit(self, run: Run) -> None:
        """Start a run, after telling the limiter: it counts a start when it happens."""
        if self._grants is None:
            self._begin(run)
        else:
            self._pipeline.limited.add(run)
            self._grants.start(partial(self._told_limiter, run))

    def _told_limiter(self, run: Run, taken: bool) -> None:
        """Start a run whose start the limiter took; a limiter that failed costs the job nothing."""
        self._pipeline.limited.discard(run)
        self._pipeline.changed()
        if not taken and run.stop is None:
            self._pipeline.end_before_start(run, Stop.RELEASE)
        elif run.stop is not None:
            self._pipeline.end_before_start(run, run.stop)
        else:
            self._begin(run)

    def _begin(self, run: Run) -> None:
        job, handler = run.job, run.handler
        run.started = run.slot.started = self._loop.time()  # type: ignore[union-attr]  # it has its slot since _start
        if job.timeout is not None or run.due is not None:
            self._pipeline.limit(run, None if handler.executor.reports_start else job.timeout)
        if self._debug:
            logger.debug("job %s (%s) started, attempt %d", job.id, job.kind, job.attempt, extra=log_fields(job))
        if self._events.wants(JobStarted):
            worker = self._registration.id
            self._events.emit(
                JobStarted(job_id=job.id, kind=job.kind, queue=job.queue, attempt=job.attempt, worker=worker)
            )
        try:
            handler.executor.start(run)
        except BaseException:
            logger.exception(
                "job %s (%s) could not be started and is released", job.id, job.kind, extra=log_fields(job)
            )
            self._pipeline.end_before_start(run, Stop.RELEASE)
