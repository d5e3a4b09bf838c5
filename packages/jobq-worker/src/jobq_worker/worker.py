"""`JobQueueWorker`: claims jobs from a storage, runs them, and settles them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from jobq_core.checks import Seconds, check_seconds
from jobq_core.events import WorkerStarted, WorkerStopped
from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo
from jobq_core.storage import QueueStorage
from jobq_worker.around.lifespan import Lifespan
from jobq_worker.executors.processes import ProcessExecutor
from jobq_worker.health import WorkerHealth
from jobq_worker.liveness.loop_watch import LoopWatch
from jobq_worker.liveness.worker_facts import versions_of
from jobq_worker.metrics_port import serve_metrics
from jobq_worker.options import WorkerKeywords, WorkerOptions, check_concurrency, given_options
from jobq_worker.probes import livez
from jobq_worker.processes.exits import ExitCode, end_process_soon
from jobq_worker.processes.retirement import Retired, Retirement
from jobq_worker.processes.service_manager import ServiceManager
from jobq_worker.processes.signals import Signals
from jobq_worker.processes.stop_guard import StopGuard
from jobq_worker.running.slots import PoolStats
from jobq_worker.session import WorkerSession
from jobq_worker.setup import WorkerSetup

if TYPE_CHECKING:
    from jobq_worker.metrics.http_server import MetricsServer

logger = logging.getLogger("jobq.worker")


class JobQueueWorker(WorkerSetup):
    """Runs jobs: `async with JobQueueWorker(storage, jobs=[…])`, or `start()` and `stop()`, or `run()` until a signal.

    storage: a URL, which is opened at each start and closed at each stop; an open storage, which stays the caller's; or
        None for the URL in the environment variable JOBQ_STORAGE, or of `jobq worker --storage`, at the start.
    options: all options as one checked value, instead of keywords.

    The keywords are the fields of `WorkerOptions`: jobs, queues, concurrency, limiter, retention, name,
    heartbeat_interval, lost_after, poll_interval and stop_timeout. Raises ConfigurationError for an option that does
    not exist or cannot work.
    """

    _noun = "worker"

    def __init__(
        self,
        storage: QueueStorage | str | None = None,
        options: WorkerOptions | None = None,
        **keywords: Unpack[WorkerKeywords],
    ) -> None:
        super().__init__(storage, given_options("JobQueueWorker", options, keywords))
        self._session: WorkerSession | None = None
        self._metrics: MetricsServer | None = None
        self._lifespan: Lifespan | None = None
        self._close_error: Exception | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._manager = ServiceManager()
        self._last_id: UUID | None = None
        self._exit_code = ExitCode.STOPPED
        self.retired: Retired | None = None
        """Why the worker ended by itself: one of the options burst, max_jobs and max_memory, or an operator who asked
        it to drain."""

    @property
    def id(self) -> UUID | None:
        """The id of the present registration, or the last one; None before the first start."""
        return self._last_id if self._session is None else self._session.registration.id

    @property
    def name(self) -> str:
        """The worker's name in logs and lists."""
        return self._options.name

    @property
    def options(self) -> WorkerOptions:
        """Its options as one checked value."""
        return self._options

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it takes jobs from."""
        return self._options.queues or self._handlers.queues()

    @property
    def concurrency(self) -> int:
        """How many jobs it may run at the same time."""
        return len(self._slots)

    @property
    def metrics_port(self) -> int | None:
        """The port on which it serves its metrics now; None while it serves none."""
        return None if self._metrics is None else self._metrics.port

    @property
    def storage(self) -> QueueStorage:
        """The storage of its jobs. A storage given by URL is open while the worker runs."""
        return self._owned.storage

    @property
    def has_processes(self) -> bool:
        """Whether its jobs run in worker processes that it supervises."""
        return False

    # Start and stop

    async def start(self) -> None:
        """Register and begin to claim; does nothing if the worker runs.

        Raises ConfigurationError for jobs that cannot run here and on another event loop than the one that it runs on;
        StorageError for a storage that cannot be used. After an error, nothing is left open.
        """
        await super().start()

    async def _start(self) -> None:
        if self._stopping is not None:
            await asyncio.wait([self._stopping])
        self.check()
        self.retired = None
        self._metrics = serve_metrics(self)
        try:
            await self._start_session()
        except BaseException:
            self._stop_metrics()
            raise

    def _stop_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.stop()
            self._metrics = None

    async def _start_session(self) -> None:
        definitions = self._handlers.definitions()
        info = WorkerInfo(
            id=new_id(),
            name=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self.queues,
            kinds=tuple(definition.kind for definition in definitions),
            concurrency=len(self._slots),
            lost_after=self._options.lost_after,
            versions=versions_of(self.storage),
        )
        before, self._state = self._state, "starting"
        try:
            await self._owned.open()
            lifespan = self._around.lifespan([each for each in definitions if each.executor != ProcessExecutor.name])
            await lifespan.open()
            try:
                session = self._make_session(info, lifespan)
                await session.start()
            except BaseException:
                await lifespan.close()
                raise
        except BaseException:
            self._state = before
            await self._owned.close()
            raise
        self._lifespan, self._close_error = lifespan, None
        self._session, self._last_id, self._state = session, info.id, "running"
        self._log_start(info)
        self.emit(WorkerStarted(worker=info.id, name=self.name))

    def _make_session(self, info: WorkerInfo, lifespan: Lifespan) -> WorkerSession:
        return WorkerSession(
            self.storage,
            info,
            self._options,
            self._handlers,
            self._around,
            lifespan.opened,
            self._slots,
            self,
            self._outages,
            self.exchanges,
            self._drain,
        )

    def _log_start(self, info: WorkerInfo) -> None:
        for warning in self.storage.warnings:
            logger.warning("worker %s: %s", self.name, warning)
        self._warn_of_unused_queues()
        logger.info(
            "worker %s (%s) started: %d at a time, queues %s, on %s",
            self.name,
            info.id,
            len(self._slots),
            ", ".join(info.queues),
            self.storage.url,
        )

    def _warn_of_unused_queues(self) -> None:
        """Warn of queues to which none of the jobs goes by its declaration; it is likely that their names are wrong."""
        declared = self._handlers.declared_queues()
        if declared is None:
            return  # some job goes to whatever queue its client uses
        for queue in self._options.queues or ():
            if queue not in declared:
                logger.warning(
                    "worker %s serves queue %r, but its jobs declare %s: is the name right?",
                    self.name,
                    queue,
                    ", ".join(map(repr, declared)),
                    extra={"queue": queue},
                )

    async def stop(self, timeout: Seconds | None = None) -> None:
        """Claim no more, let running jobs end for up to `timeout` seconds, then stop and release the others.

        timeout: default stop_timeout. A second call meanwhile shortens the wait; one during a start waits for it. Does
        nothing if the worker does not run, as in a forked child. A job whose handler still runs 2 s after it was asked
        to stop is not released but logged: the worker's registration stays until its lease runs out, and others then
        rescue the job.
        """
        if self.leave_parent():
            return
        seconds = self._options.stop_timeout if timeout is None else check_seconds(timeout, "timeout")
        while self._stopping is None:
            if self._loop is None and not self._changing.locked():
                return
            if self._loop is None:
                async with self._changing:
                    continue  # the start that was under way has ended
            self._check_loop(self._loop)
            self._loop = None
            assert self._session is not None
            self._state = "stopping"
            self._manager.stopping()
            self._session.halt(seconds)
            self._stopping = asyncio.get_running_loop().create_task(self._stop(), name="jobq stop")
            break
        else:
            if self._session is not None:
                self._session.hurry(seconds)
        # Shielded: a caller that is cancelled must not leave the worker half stopped.
        await asyncio.shield(self._stopping)

    def _drain(self, actor: str) -> None:
        """Stop, since an operator asked for it."""
        if self._state == "running":
            logger.info("worker %s was asked to drain by %s", self.name, actor)
            self.retired = Retired.DRAINED
            self._draining = asyncio.ensure_future(self.stop())

    def _abandon(self) -> None:
        self._session = self._stopping = self._lifespan = self._metrics = None
        self._state = "stopped"

    async def _stop(self) -> None:
        session = self._session
        assert session is not None
        self._exit_code = ExitCode.STOPPED
        try:
            await session.stop()
        finally:
            self._last_id = session.registration.id
            if session.unended:
                self._exit_code = ExitCode.RUNS_LEFT
            self._session = None
            self._state = "stopped"
            try:
                await self._close()
            finally:
                self._stop_metrics()
                self._stopping = None
                self._report_stop(self._last_id)

    async def _close(self) -> None:
        lifespan, self._lifespan = self._lifespan, None
        try:
            if lifespan is not None:
                await lifespan.close()
        except Exception as error:
            self._close_error = error
            raise
        finally:
            await self._owned.close()

    def _report_stop(self, id: UUID) -> None:
        stats = self._slots.stats()
        logger.info(
            "worker %s (%s) stopped: %d completed, %d failed, %d retried, %d released",
            self.name,
            id,
            stats.completed,
            stats.failed,
            stats.retried,
            stats.released,
        )
        self.emit(WorkerStopped(worker=id, name=self.name, stats=stats))
        self.close_events()

    async def run(self) -> None:
        """Start, unless the worker runs, and serve until SIGTERM or SIGINT; then stop as `stop()` does.

        It ends by itself with the options burst, max_jobs and max_memory, and `retired` then says why.

        A second signal stops the jobs immediately; signals within a second count as one. Returns when the worker has
        stopped, by a signal or by `stop()`. Raises what `start` raises, and what a lifespan raises when it closes.
        While the event loop is blocked, a second signal, or the end of stop_timeout, ends the process with
        `ExitCode.BLOCKED`. Under systemd, it says when it is ready and when it stops, and serves the watchdog.

        Raises SystemExit with another `ExitCode` if handlers did not end: their jobs are not released, so the
        process must end. It is ended by force 2 s later.
        """
        with (
            Signals(StopGuard(self._options.stop_timeout, LoopWatch())) as signals,
            Retirement(self._options, self, self._stop_claiming) as retirement,
            self._serving_manager() as manager,
        ):
            await self.start()
            manager.serve(lambda: livez(self.health()).ok)
            with _frozen():
                await self._until_stopped(signals, retirement)
        if self._close_error is not None:
            raise self._close_error
        if self._exit_code is not ExitCode.STOPPED:
            end_process_soon(self._exit_code)
            raise SystemExit(self._exit_code)

    @contextmanager
    def _serving_manager(self) -> Generator[ServiceManager]:
        """Let the service manager of the process know when this worker stops."""
        self._manager = ServiceManager.take_over()
        try:
            yield self._manager
        finally:
            self._manager.close()
            self._manager = ServiceManager()

    def _stop_claiming(self) -> None:
        if self._session is not None:
            self._session.stop_claiming()

    async def _until_stopped(self, signals: Signals, retirement: Retirement) -> None:
        stopped = asyncio.Event()
        cancel = self.once(WorkerStopped, lambda _: stopped.set())
        assert self._session is not None
        broken, exhausted = self._session.broken, self._session.pipeline.exhausted
        first = asyncio.ensure_future(signals.wait())
        over = asyncio.ensure_future(stopped.wait())
        reasons: list[asyncio.Future[Any]] = [first, over, broken]
        if self._options.exit_when_hung:
            reasons.append(exhausted)
        retiring = asyncio.ensure_future(retirement.wait(self._session.is_idle)) if retirement.is_possible else None
        if retiring is not None:
            reasons.append(retiring)
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
            if retiring is not None and retiring.done():
                self.retired = retiring.result()
                logger.info("worker %s stops: %s", self.name, self.retired.value)
            stopping = asyncio.ensure_future(self.stop())
            second = asyncio.ensure_future(signals.wait(2))
            await asyncio.wait([stopping, second], return_when=asyncio.FIRST_COMPLETED)
            second.cancel()
            if not stopping.done():
                await self.stop(0)
            await stopping
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            first.cancel()
            over.cancel()
            cancel()
            if retiring is not None:
                retiring.cancel()
        if broken.done():
            raise broken.result()
        if exhausted.done() and self._options.exit_when_hung:
            self._exit_code = ExitCode.HUNG

    # While it runs

    def resize(self, concurrency: int) -> None:
        """Run this many jobs at the same time from now on; 0 pauses. Surplus jobs run to their end.

        Raises ConfigurationError for a number below 0 or above 100,000.
        """
        count = check_concurrency(concurrency)
        if self._session is None:
            self._slots.resize(count)
        else:
            self._session.resize(count)

    def pool_stats(self) -> PoolStats:
        """Return the counts since the worker was made, over all its starts, in total and by slot. Makes no query."""
        return PoolStats(total=self._slots.stats(), workers=tuple(self._slots.each()))

    def health(self) -> WorkerHealth:
        """Return whether the worker runs, counts as alive, and reaches its storage. May be called from any thread."""
        session, outages = self._session, self._outages
        return WorkerHealth(
            state=self._state,
            worker=self.id,
            broken=session is not None and session.broken.done(),
            alive=session is not None and not session.broken.done() and session.registration.is_alive(),
            lost_after=self._options.lost_after,
            since_beat=None if session is None else session.registration.since_beat,
            storage_failing=outages.now,
            storage_failing_for=outages.seconds,
            storage_error=outages.last,
            storage_errors=outages.errors,
            hears=session is not None and session.notifications.hears,
            leads=session is not None and session.maintenance.leads,
            hung=self._slots.hung,
            exhausted=self._slots.exhausted,
            loop_lag=0.0 if session is None else session.registration.watch.lag,
            running=self._slots.used,
            buffered=0 if session is None else len(session.pipeline.claimed),
            free=len(self._slots.free),
            limited=None if session is None else session.limited,
            lost_leases=self._slots.lost,
            lost_workers=0 if session is None else session.maintenance.lost_workers,
            busy=0 if session is None else session.pipeline.finished.busy,
            refused_kinds=tuple(dict.fromkeys([*self._slots.unknown_kinds, *self._slots.unfit_kinds])),
            warnings=() if session is None else self.storage.warnings,
        )


@contextmanager
def _frozen() -> Generator[None]:
    """Exempt all present objects from garbage collection, unless the program has done so; undone at the end.

    They are mostly what the process has imported, and make up most of what each full collection would look at.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
