"""A session: all that a worker is between one start and the stop that follows.

It puts the rooms together, starts them, and takes them down in the order that loses nothing: claiming stops first, then
the runs end, then what they came to is settled, and the heartbeat goes on until that is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from jobq_core.errors import JobQueueError
from jobq_core.events import EventSource, WorkerLost, WorkerStarted
from jobq_core.limiters import Limiter
from jobq_core.records import WorkerInfo
from jobq_core.storage import REQUEST_TOPIC, WAITING_TOPIC, LostWorker, QueueStorage, Retention, queue_topic
from jobq_worker.executors.coroutines import CoroutineExecutor
from jobq_worker.executors.threads import ThreadExecutor
from jobq_worker.fetcher import Fetcher
from jobq_worker.handlers import Handlers
from jobq_worker.leases import LeaseMonitor, StartMarks
from jobq_worker.maintenance import Maintenance
from jobq_worker.notifications import listen
from jobq_worker.outages import Outages
from jobq_worker.prefetch import LimiterGate
from jobq_worker.progress import Reporter
from jobq_worker.recorder import Recorder
from jobq_worker.registration import Registration
from jobq_worker.run import Stop
from jobq_worker.runner import Runner
from jobq_worker.slots import Slots

logger = logging.getLogger("jobq.worker")

STUBBORN: Final = 1.0
"""Seconds that handlers have to end once the worker's patience is over, before their jobs are handed back without."""
FLUSH: Final = 5.0
"""Seconds that the last settlements may take, and then the farewell, when the storage is away."""


class WorkerSession:
    """One registration of a worker and the rooms that serve it."""

    def __init__(
        self,
        storage: QueueStorage,
        info: WorkerInfo,
        *,
        handlers: Handlers,
        slots: Slots,
        events: EventSource,
        limiter: Limiter | None,
        retention: Mapping[str, Retention],
        outages: Outages,
        heartbeat_interval: float,
        poll_interval: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._storage = storage
        self._events = events
        self._retention = retention
        self._slots = slots
        self._tasks: list[asyncio.Task[None]] = []
        self._patience_ends = float("inf")
        self._changed = asyncio.Event()
        self.registration = Registration(storage, info, outages, slots.stats, heartbeat_interval=heartbeat_interval)
        self.maintenance = Maintenance(
            storage,
            self.registration,
            outages,
            rescue_interval=info.lost_after / 6,
            # A leader that died is replaced before its own jobs may be taken back, so that nothing adds to lost_after.
            longest_term=info.lost_after / 2,
            on_lost=self._found_lost,
        )
        recorder = Recorder(slots, self.registration, events, retention, self.maintenance.prune_soon)
        gate = None if limiter is None else LimiterGate(limiter, poll_interval)
        self.fetcher = Fetcher(
            storage, self.registration, slots, outages, info.queues, gate, poll_interval, on_settled=recorder.record
        )
        self._reporter = Reporter(storage, self.registration, events, outages, on_lost=lambda: self._leases.ring())
        self._start_marks = StartMarks(
            storage, self.registration, outages, on_answer=lambda run, held: self.runner.may_begin(run, held)
        )
        self.runner = Runner(
            slots,
            self.registration,
            events,
            limiter,
            self._reporter.report,
            self.fetcher.ended,
            self._start_marks.ask,
        )
        self.fetcher.runner = self.runner
        self._leases = LeaseMonitor(storage, self.registration, self.runner, outages)
        self._executors = (CoroutineExecutor(self.runner.ended), ThreadExecutor(self.runner.ended))
        self.runner.handlers = handlers.table(self._executors)
        self._outages = outages

    async def start(self) -> None:
        """Register, and serve from now on. Raises StorageError; nothing is left behind then."""
        if self._retention:
            await self._storage.set_retention(self._retention)
        self.registration.on_alive = self._alive
        self.registration.on_expired = lambda: self.runner.stop_all(Stop.RELEASE)
        self.registration.on_lost = lambda: self.runner.stop_all(Stop.LOST)
        self.registration.on_returned = self._returned
        await self.registration.join()
        bells = {queue_topic(queue): self.fetcher.ring for queue in self.registration.info.queues}
        bells[REQUEST_TOPIC] = self._leases.ring
        bells[WAITING_TOPIC] = self.maintenance.ring
        self._fetching = self._loop.create_task(self.fetcher.run(), name="jobq fetcher")
        self._tasks = [
            self._loop.create_task(listen(self._storage, bells, self._outages), name="jobq doorbell"),
            self._loop.create_task(self._leases.run(), name="jobq leases"),
            self._loop.create_task(self._start_marks.run(), name="jobq start marks"),
            self._loop.create_task(self._reporter.run(), name="jobq progress"),
            self._loop.create_task(self.maintenance.run(), name="jobq maintenance"),
        ]

    def resize(self, count: int) -> None:
        """Have this many slots from now on; with none, what is buffered goes back."""
        self._slots.resize(count)
        if count == 0:
            self.runner.give_back()
        self.fetcher.ring()

    def hurry(self, timeout: float) -> None:
        """Let a stop that is under way wait no longer than `timeout` seconds from now for running jobs."""
        self._patience_ends = min(self._patience_ends, self._loop.time() + timeout)
        self._changed.set()

    def halt(self, timeout: float) -> None:
        """Claim and start nothing any more, from this moment; running jobs have `timeout` seconds."""
        self._patience_ends = self._loop.time() + timeout
        self.fetcher.stop_claiming()
        self.runner.draining = True
        self.runner.on_ended = self._ended_while_stopping
        self.runner.give_back()

    async def stop(self) -> None:
        """After `halt`, let the runs end, hand back those that take too long, settle, and sign off."""
        try:
            await self._runs_end()
            await self._last_settlements()
        finally:
            await self._sign_off()

    async def _runs_end(self) -> None:
        await self._until_idle()
        if self.runner.running:
            logger.warning("%d jobs still run; they are stopped and handed back", len(self.runner.running))
            self.runner.stop_all(Stop.RELEASE)
            self._patience_ends = self._loop.time() + STUBBORN
            await self._until_idle()
        self.runner.abandon()
        for executor in self._executors:
            executor.close()
        await self.runner.settle_calls()

    async def _until_idle(self) -> None:
        while self.runner.running and (left := self._patience_ends - self._loop.time()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def _last_settlements(self) -> None:
        self.fetcher.finish()
        await asyncio.wait([self._fetching], timeout=FLUSH)
        if self.runner.outbox:
            logger.error(
                "%d settlements could not be stored; their jobs will be taken back from this worker and run again",
                len(self.runner.outbox),
            )

    async def _sign_off(self) -> None:
        ends = self._loop.time() + FLUSH
        tasks = [self._fetching, *self._tasks]
        for task in tasks:
            task.cancel()
        for executor in self._executors:
            executor.close()
        await asyncio.wait(tasks, timeout=FLUSH)
        try:
            async with asyncio.timeout_at(ends):
                await self.maintenance.resign()
        except (JobQueueError, TimeoutError) as error:
            logger.warning("could not resign from the maintenance, whose lease ends by itself: %s", error)
        await self.registration.leave(max(ends - self._loop.time(), 0.0))

    def _ended_while_stopping(self) -> None:
        self.fetcher.ended()
        self._changed.set()

    def _alive(self) -> None:
        self.runner.pump()
        self.fetcher.ring()

    def _returned(self) -> None:
        info = self.registration.info
        self._events.emit(WorkerStarted(worker=info.id, name=info.name))

    def _found_lost(self, lost: Sequence[LostWorker]) -> None:
        for worker in lost:
            logger.warning(
                "worker %s %s gave no sign of life for %.0f s; %d jobs were taken back",
                worker.name,
                worker.worker,
                worker.silent_for,
                len(worker.jobs),
            )
            self._events.emit(
                WorkerLost(
                    worker=worker.worker, name=worker.name, silent_for=worker.silent_for, jobs=tuple(worker.jobs)
                )
            )
