"""From claimed jobs to runs that have ended: buffer ─► executor ─► outbox.

The hot path of the worker: what is done here is done for every job, so a job costs no timer, context or event that
nobody asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jobq_core.events import EventSource, JobStarted
from jobq_core.limiters import Limiter
from jobq_core.records import Progress
from jobq_core.states import Ending
from jobq_core.storage import UNKNOWN_KIND, ClaimedJob, Settlement
from jobq_worker.handlers import Handler
from jobq_worker.registration import Registration
from jobq_worker.run import Run, RunContext, Stop
from jobq_worker.settlements import past_deadline, stopped
from jobq_worker.slots import Slots
from jobq_worker.unknown_kinds import UnknownKinds

logger = logging.getLogger("jobq.worker")

GRACE: Final = 1.0
"""Seconds that a handler past its time limit has to end, before its run is settled without it."""

Report = Callable[[Run, Progress], None]


class Runner:
    """Starts buffered jobs in free slots and collects the runs that have ended, for the fetcher to settle.

    `on_ended` is called after each end, and whenever a slot or the outbox changed otherwise. `ask_to_begin` has it
    noted that a run begins, and leads to `may_begin`.
    """

    def __init__(
        self,
        slots: Slots,
        registration: Registration,
        events: EventSource,
        limiter: Limiter | None,
        report: Report,
        on_ended: Callable[[], None],
        ask_to_begin: Callable[[Run], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = slots
        self._registration = registration
        self._events = events
        self._limiter = limiter
        self._report = report
        self.on_ended = on_ended
        self._ask_to_begin = ask_to_begin
        self._unknown = UnknownKinds(slots.unknown_kinds)
        self._calls: set[asyncio.Task[None]] = set()
        self._starting: set[Run] = set()
        self._asking: set[Run] = set()
        self.handlers: Mapping[str, Handler] = {}
        self.buffer: deque[Run] = deque()
        self.running: dict[Run, None] = {}
        """In the order of their starts; a run past its time limit stays until its handler ends. Not by lease: a
        database that was restored, or promoted before it had all, may give a number again while a run of the former one
        goes on here."""
        self.outbox: deque[Run] = deque()
        """Runs that have ended and are to be settled."""
        self.draining = False

    def take(self, claimed: Iterable[ClaimedJob], at: float) -> None:
        """Put claimed jobs into the buffer and start what can start. at: the loop's time before they were claimed."""
        buffer, now = self.buffer, self._loop.time()
        for job in claimed:
            buffer.append(Run(job, now, None if job.deadline_in is None else at + job.deadline_in))
        self.pump()

    def adopt(self, found: Iterable[ClaimedJob], at: float) -> None:
        """Take jobs whose claim was not answered; under a limiter, which reserved no start for them, hand them back."""
        if self._limiter is None:
            self.take(found, at)
            return
        for job in found:
            self._settle(Run(job, at), Settlement(job.id, job.lease, Ending.RELEASE))
        self.on_ended()

    def pump(self) -> None:
        """Start buffered jobs while there are free slots, and while this worker surely counts as alive."""
        buffer, free = self.buffer, self._slots.free
        if self.draining:
            self.give_back()
        while buffer and free and self._registration.is_alive():
            run = buffer.popleft()
            handler = self.handlers.get(run.job.kind)
            if handler is None:
                self._hand_back_unknown(run)
            elif run.due is not None and run.due <= self._loop.time():
                run.handler = handler
                self._unstarted(run, past_deadline(run))
            else:
                run.handler = handler
                self._start(run)

    def _start(self, run: Run) -> None:
        slot = run.slot = self._slots.free.pop()
        slot.run = run
        self.running[run] = None
        if run.job.needs_start_mark:
            self._asking.add(run)
            self._ask_to_begin(run)
        else:
            self._may_start(run)

    def may_begin(self, run: Run, held: bool) -> None:
        """Start a run that the storage was asked about, if its lease stands and nothing came in between."""
        if not held:
            self._end_unbegun(run, Stop.LOST)
        elif self.draining or not self._registration.is_alive():
            self._end_unbegun(run, Stop.RELEASE)
        elif run.due is not None and run.due <= self._loop.time():
            self._end_unbegun(run, Stop.DEADLINE)
        else:
            self._asking.discard(run)
            self._may_start(run)

    def _may_start(self, run: Run) -> None:
        """Start a run, once the limiter knows of it: that comes last, so that it counts the start when it happens."""
        if self._limiter is None:
            self._begin(run)
        else:
            self._starting.add(run)
            self._call(self._start_limited(self._limiter, run))

    def _end_unbegun(self, run: Run, why: Stop) -> None:
        run.stop = why
        run.outcome = stopped(run, None)
        self.ended(run)

    def _begin(self, run: Run) -> None:
        job = run.job
        run.started = self._loop.time()
        if run.handler.definition.wants_context:
            run.context = self._context(run)
        if job.timeout is not None or run.due is not None:
            self._limit(run)
        if self._events.wants(JobStarted):
            self._events.emit(
                JobStarted(
                    job_id=job.id, kind=job.kind, queue=job.queue, attempt=job.attempt, worker=self._registration.id
                )
            )
        try:
            run.handler.executor.start(run)
        except Exception:
            logger.exception("job %s (%s) could not be started and is handed back", run.job.id, run.job.kind)
            run.outcome = Settlement(run.job.id, run.job.lease, Ending.RELEASE)
            self.ended(run)

    async def _start_limited(self, limiter: Limiter, run: Run) -> None:
        try:
            await limiter.started(1)
        except Exception:
            logger.exception("the limiter failed; job %s (%s) is handed back", run.job.id, run.job.kind)
            self._starting.discard(run)
            run.outcome = Settlement(run.job.id, run.job.lease, Ending.RELEASE)
            self.ended(run)
            return
        self._starting.discard(run)
        self.on_ended()
        if run.stop is not None:
            self._end_unbegun(run, run.stop)
        else:
            self._begin(run)

    def _context(self, run: Run) -> RunContext:
        job = run.job
        left = None if run.due is None else run.due - self._loop.time()
        return RunContext(
            job_id=job.id,
            kind=job.kind,
            queue=job.queue,
            attempt=job.attempt,
            max_attempts=job.max_attempts,
            lease=job.lease,
            worker=self._registration.id,
            run_id=job.run_id,
            tags=job.tags,
            deadline=None if left is None else datetime.now(UTC) + timedelta(seconds=left),
            report=lambda progress: self._report(run, progress),
        )

    def _limit(self, run: Run) -> None:
        timeout = run.job.timeout
        # A timeout that is no number, by a stranger's hand, is none.
        ends = float("inf") if timeout is None or timeout != timeout else run.started + timeout
        if run.due is not None and run.due <= ends:
            run.timer = self._loop.call_at(run.due, self.stop, run, Stop.DEADLINE)
        else:
            run.timer = self._loop.call_at(ends, self.stop, run, Stop.TIMEOUT)

    def ended(self, run: Run) -> None:
        """Take a run whose handler has ended; called by the executors."""
        slot = run.slot
        assert slot is not None
        asked = run in self._asking
        if asked:
            self._asking.remove(run)
        run.unlink()
        run.arguments = None  # not needed to settle it
        if run not in self.running:
            return  # abandoned meanwhile
        del self.running[run]
        if not run.over:
            if run.started:
                run.seconds = self._loop.time() - run.started
            self._settle(run, run.outcome)
        self._slots.give_back(slot)
        if asked:
            self._release_grants(1)
        elif self._limiter is not None:
            self._call(self._limited_end(self._limiter))
        if self.buffer:
            self.pump()
        self.on_ended()

    async def _limited_end(self, limiter: Limiter) -> None:
        await limiter.finished(1)
        self.on_ended()

    def stop(self, run: Run, why: Stop) -> None:
        """Ask a run to stop; the first reason stays, but for a lost lease, which overrules all others."""
        if run in self._asking:
            self._end_unbegun(run, why)
            return
        asked = run.stop is not None
        if asked and why is not Stop.LOST:
            return
        run.stop = why
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        if why in (Stop.TIMEOUT, Stop.DEADLINE):
            run.timer = self._loop.call_later(GRACE, self.settle_without_end, run)
        if not asked and run not in self._starting:
            run.handler.executor.stop(run)

    def settle_without_end(self, run: Run) -> None:
        """Settle a run whose handler was told to stop and goes on; what it does from now on counts for nothing."""
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        if run.over or run not in self.running:
            return
        if run.started:
            run.seconds = self._loop.time() - run.started
        logger.warning("job %s (%s) goes on although it was told to stop", run.job.id, run.job.kind)
        self._settle(run, stopped(run, None))
        self.on_ended()

    def stop_all(self, why: Stop) -> None:
        """Ask every run to stop, and forget (LOST) or hand back (else) what has not started."""
        for run in list(self.running):
            self.stop(run, why)
        if why is Stop.LOST:
            self._release_grants(len(self.buffer))
            for run in self.buffer:
                run.over = True  # who asks the storage about it just now has no more to do with it
            self.buffer.clear()
        else:
            self.give_back()

    def give_back(self) -> None:
        """Hand all buffered jobs back, their attempts uncounted."""
        while self.buffer:
            run = self.buffer.popleft()
            self._unstarted(run, Settlement(run.job.id, run.job.lease, Ending.RELEASE))

    def drop(self, run: Run, why: Stop) -> None:
        """Take a buffered job out, before it starts, because somebody asked for it or its lease is over."""
        self.buffer.remove(run)
        run.stop = why
        self._unstarted(run, stopped(run, None))

    def abandon(self) -> None:
        """Settle all that still runs and take back its slots; the executors are to be closed with it."""
        for run in list(self.running):
            self.settle_without_end(run)
            run.unlink()
            assert run.slot is not None
            self._slots.give_back(run.slot)
            if self._limiter is not None:
                self._call(self._limited_end(self._limiter))
        self.running.clear()

    async def settle_calls(self) -> None:
        """Wait until the limiter knows of everything."""
        while self._calls:
            await asyncio.wait(self._calls)

    def leases(self) -> list[int]:
        """Return the leases that are accounted for: buffered, running, or ended and not settled yet."""
        return [
            *(run.job.lease for run in self.buffer),
            *(run.job.lease for run in self.running),
            *(run.job.lease for run in self.outbox),
        ]

    def _hand_back_unknown(self, run: Run) -> None:
        kind = run.job.kind
        delay = self._unknown.delay(kind, self._loop.time())
        settlement = Settlement(run.job.id, run.job.lease, Ending.RELEASE, when=delay, reason=UNKNOWN_KIND)
        self._unstarted(run, settlement)

    def _unstarted(self, run: Run, settlement: Settlement | None) -> None:
        self._release_grants(1)
        self._settle(run, settlement)
        self.on_ended()

    def _release_grants(self, count: int) -> None:
        if self._limiter is not None and count:
            self._call(self._limiter.release(count))

    def _settle(self, run: Run, settlement: Settlement | None) -> None:
        run.over = True
        run.settlement = settlement
        if settlement is not None:
            self.outbox.append(run)

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._calls.add(task)
        task.add_done_callback(self._called)

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the limiter failed", exc_info=error)
