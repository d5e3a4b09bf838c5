"""`WorkerSession`: what lives between one start of a worker and the stop that follows.

It makes the components, starts them, and stops them in the order that loses nothing: claiming stops first, then the
runs end, then they are settled; the heartbeat goes on until that is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from jobq_core.clock_offset import ClockOffset
from jobq_core.errors import JobQueueError
from jobq_core.events import EventSource
from jobq_core.records import WorkerInfo
from jobq_core.storage import (
    ENDED_TOPIC,
    REQUEST_TOPIC,
    WAITING_TOPIC,
    LogStorage,
    QueueOptions,
    QueueStorage,
    blocked_topic,
    queue_topic,
)
from jobq_worker.around.around import Around
from jobq_worker.around.completions import Completions
from jobq_worker.around.contexts import Contexts
from jobq_worker.around.providers import Provider
from jobq_worker.claiming.fetcher import Fetcher
from jobq_worker.claiming.grants import Grants
from jobq_worker.claiming.kinds import KnownKinds
from jobq_worker.executors import make_executors
from jobq_worker.liveness.clock_loop import ClockLoop
from jobq_worker.liveness.leases import LeaseMonitor, StartMarks
from jobq_worker.liveness.registration import Registration
from jobq_worker.liveness.worker_facts import stats_with_facts
from jobq_worker.loops import Loop
from jobq_worker.maintenance import Maintenance
from jobq_worker.notifications import Notifications
from jobq_worker.options import WorkerOptions
from jobq_worker.outages import Outages
from jobq_worker.requests.answers import Stacks
from jobq_worker.requests.worker_requests import WorkerRequests
from jobq_worker.running.handlers import Handlers
from jobq_worker.running.log_keeper import LogKeeper
from jobq_worker.running.pipeline import Pipeline
from jobq_worker.running.progress import Reporter
from jobq_worker.running.run import Stop, log_fields
from jobq_worker.running.runner import Runner
from jobq_worker.running.slots import Slots
from jobq_worker.settling.exchanges import Exchanges
from jobq_worker.settling.recorder import Recorder

logger = logging.getLogger("jobq.worker")

END_SECONDS: Final = 2.0
"""Time that handlers have to end after the stop's timeout, when they are asked to. A job whose handler goes on is not
released: it would run twice at once."""
FLUSH_SECONDS: Final = 5.0
"""Time that the last settlements may take, and then deregistering, when the storage is unavailable."""


class WorkerSession:
    """The components of a started worker.

    Attributes: nine are components that its steps act on, four are what it was made with, and three are its progress.
    """

    def __init__(
        self,
        storage: QueueStorage,
        info: WorkerInfo,
        options: WorkerOptions,
        handlers: Handlers,
        around: Around,
        opened: Mapping[Provider, Any],
        slots: Slots,
        events: EventSource,
        outages: Outages,
        exchanges: Exchanges,
        drain: Callable[[str], None],
    ) -> None:
        grants = None
        if options.limiter is not None:
            grants = Grants(options.limiter, storage, outages, options.poll_interval)
        pipeline = Pipeline(slots, grants)
        notifications = Notifications(storage, outages)
        stacks = Stacks(pipeline)
        registration = Registration(
            storage,
            info,
            pipeline,
            outages,
            events,
            stats_with_facts(slots, notifications, grants, pipeline),
            stacks.describe,
            drain,
            heartbeat_interval=options.heartbeat_interval,
        )
        self._clock_offset = ClockOffset(storage)
        self._clock = ClockLoop(self._clock_offset, outages)
        maintenance = Maintenance(
            storage,
            registration,
            outages,
            events,
            notifications,
            make_id=self._clock_offset.new_id,
            rescue_interval=info.lost_after / 6,
            # A dead leader is replaced before its own jobs are rescued, so that it adds nothing to lost_after.
            longest_term=info.lost_after / 2,
        )
        self._logs: LogKeeper | None = None
        if options.keep_logs is not None:
            kept_by = storage.facet(LogStorage, "keep_logs")  # type: ignore[type-abstract]
            self._logs = LogKeeper(
                options.keep_logs, kept_by, pipeline.running, self._clock_offset, outages, handlers.batches()
            )
        monitor = LeaseMonitor(storage, registration, pipeline, outages, events)
        reporter = Reporter(storage, registration, events, outages, monitor)
        requests = WorkerRequests(storage, registration, outages, notifications, pipeline, stacks, drain, options)
        marks = StartMarks(storage, registration, outages)
        self._executors = make_executors(pipeline, reporter, self._clock_offset, info, options)
        # The runner listens to the pipeline before the fetcher does: a free slot is filled before anything is claimed.
        make_context = Contexts(registration, reporter, self._clock_offset.new_id, Completions(storage)).make
        table = handlers.table(self._executors, around, make_context, opened, self._clock_offset.new_id)
        kinds = [(kind, handler.declaration) for kind, handler in table.items()]
        Runner(pipeline, registration, table, handlers.batches(), slots, events, grants, marks)
        retention = options.retention_of(info.queues)
        recorder = Recorder(slots, registration, events, retention, maintenance, exchanges)
        self._fetcher = Fetcher(
            storage,
            registration,
            pipeline,
            slots,
            outages,
            recorder,
            exchanges,
            info.queues,
            KnownKinds(kinds, info.queues, pipeline.now),
            grants,
            self._logs,
            options.poll_interval,
        )
        topics: dict[str, Callable[[], None]] = {
            queue_topic(queue): partial(self._fetcher.wake, queue) for queue in info.queues
        }
        topics |= {blocked_topic(queue): partial(self._fetcher.free_soon, queue) for queue in info.queues}
        topics[REQUEST_TOPIC] = partial(_wake, monitor.loop, requests.loop)
        topics[WAITING_TOPIC] = maintenance.look_soon
        topics[ENDED_TOPIC] = maintenance.follow_soon
        self._loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "fetcher": self._fetcher.loop.run,
            "notifications": partial(notifications.dispatch, topics),
            "leases": monitor.loop.run,
            "requests": requests.loop.run,
            "start marks": marks.loop.run,
            "progress": reporter.loop.run,
            "maintenance": maintenance.loop.run,
            "clock": self._clock.loop.run,
        }
        if self._logs is not None:
            self._loops["logs"] = self._logs.loop.run
        self._storage, self._retention, self._slots, self._grants = storage, retention, slots, grants
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stop_at = float("inf")
        self._changed = asyncio.Event()
        self.broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        """Done when a task ended that should go on until the stop; its result says why."""
        self.unended = 0
        """The number of handlers that went on when the worker stopped."""
        self.pipeline, self.registration = pipeline, registration
        self.maintenance, self.monitor, self.notifications = maintenance, monitor, notifications

    @property
    def limited(self) -> float | None:
        """Seconds until the limiter may permit a start; None if it holds nothing back."""
        return None if self._grants is None else self._grants.opens_in

    async def start(self) -> None:
        """Register and serve. Raises StorageError; nothing is left behind then."""
        for queue, retention in self._retention.items():
            await self._storage.set_queue(queue, QueueOptions(retention=retention), "worker")
        await self._clock_offset.measure()
        await self.registration.join()
        for name, run in self._loops.items():
            task = self._tasks[name] = asyncio.get_running_loop().create_task(run(), name=f"jobq {name}")
            task.add_done_callback(self._task_ended)
        if self._logs is not None:
            self._logs.open()
        for executor in self._executors:
            executor.open()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Say so when a task ends that goes on until the stop: the worker is not healthy then, and `run` stops it."""
        if self.pipeline.draining:
            return
        error = None if task.cancelled() else task.exception()
        logger.critical("the task %r ended before the worker; the worker must stop", task.get_name(), exc_info=error)
        if not self.broken.done():
            self.broken.set_result(error or RuntimeError(f"the task {task.get_name()!r} of the worker was cancelled"))

    def resize(self, count: int) -> None:
        """Have this many slots from now on; with none, claimed jobs are released."""
        self._slots.resize(count)
        if count == 0:
            self.pipeline.give_back()
        self.pipeline.changed()
        self._fetcher.wake_all()

    def halt(self, timeout: float) -> None:
        """Claim and start nothing from now on; running jobs have `timeout` seconds to end."""
        self._stop_at = self.pipeline.now() + timeout
        self._log_draining(timeout)
        self.pipeline.on_change(self._changed.set)
        self.stop_claiming()

    def stop_claiming(self) -> None:
        """Claim and start nothing from now on, and release the jobs that wait for a slot."""
        self.pipeline.draining = True
        self.pipeline.give_back()
        for batch in list(self.pipeline.gathering.values()):
            batch.close()
        self._fetcher.loop.wake()

    def is_idle(self) -> bool:
        """Return whether the worker has no job, and its queues had none to claim at the last look."""
        pipeline = self.pipeline
        return not pipeline.claimed and not pipeline.running and not pipeline.finished and self._fetcher.found_nothing

    def _log_draining(self, timeout: float) -> None:
        running = self._unsettled
        if running:
            info = self.registration.info
            jobs, them = ("1 running job", "it") if running == 1 else (f"{running} running jobs", "them")
            logger.info(
                "worker %s (%s) is draining: it claims no more jobs and waits up to %g s for %s; "
                "a second signal or stop(0) stops %s immediately",
                info.name,
                info.id,
                timeout,
                jobs,
                them,
            )

    def hurry(self, timeout: float) -> None:
        """Wait at most `timeout` seconds from now for running jobs."""
        self._stop_at = min(self._stop_at, self.pipeline.now() + timeout)
        self._changed.set()

    async def stop(self) -> None:
        """After `halt`: let the runs end, release those that stop when asked, settle all, and deregister.

        The worker stays registered, until its lease runs out, for runs that do not stop.
        """
        try:
            await self._end_runs()
            await self._settle()
        finally:
            await self._sign_off()

    async def _end_runs(self) -> None:
        await self._wait_idle()
        if running := self._unsettled:
            still = "1 job is still running; it is" if running == 1 else f"{running} jobs are still running; they are"
            logger.warning("%s stopped and released", still)
            self.pipeline.stop_all(Stop.RELEASE)
            self._stop_at = self.pipeline.now() + END_SECONDS
            await self._wait_idle()
        self.unended = len(self.pipeline.running)
        self.pipeline.abandon()
        self._log_left()
        self._close_executors()
        if self._grants is not None:
            await self._grants.close()

    def _log_left(self) -> None:
        for run in self.pipeline.left:
            job = run.job
            logger.error(
                "job %s (%s) was asked to stop and is still running; it is not released, but will be rescued when the "
                "lease of worker %s runs out, in at most %g s",
                job.id,
                job.kind,
                self.registration.info.name,
                self.registration.info.lost_after,
                extra=log_fields(job),
            )

    @property
    def _unsettled(self) -> int:
        """The number of running jobs but those that hang past their time limit, which are settled."""
        return len(self.pipeline.running) - self._slots.hung

    async def _wait_idle(self) -> None:
        while self._unsettled and (left := self._stop_at - self.pipeline.now()) > 0:
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _close_executors(self) -> None:
        for executor in self._executors:
            executor.close()

    async def _settle(self) -> None:
        self._fetcher.finish()
        await asyncio.wait([self._tasks["fetcher"]], timeout=FLUSH_SECONDS)
        if self.pipeline.finished:
            logger.error(
                "%d settlements could not be stored; their jobs will be rescued from this worker and run again",
                len(self.pipeline.finished),
            )

    async def _sign_off(self) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + FLUSH_SECONDS
        for task in self._tasks.values():
            task.cancel()
        self._close_executors()
        await asyncio.wait(self._tasks.values(), timeout=FLUSH_SECONDS)
        if self._logs is not None:
            await self._logs.close()
        try:
            async with asyncio.timeout_at(ends):
                await self.maintenance.resign()
        except (JobQueueError, TimeoutError) as error:
            logger.warning("could not give up the lease on maintenance, which ends by itself: %s", error)
        await self.registration.leave(max(ends - loop.time(), 0.0), deregister=not self.pipeline.left)
        for executor in self._executors:
            await executor.wait_closed()


def _wake(*loops: Loop) -> None:
    for loop in loops:
        loop.wake()
