"""`JobQueueServer`: a worker that shows its slots as a pool of workers, and reports on the whole storage.

All workers of the pool share one fetcher, one heartbeat, one subscription and one share of the maintenance, so that an
idle pool of ten costs the database as much as one worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Unpack

from msgspec.structs import replace

from jobq_core.checks import Seconds, check_count, check_seconds
from jobq_core.errors import ConfigurationError
from jobq_core.records import WorkerRecord, WorkerStats
from jobq_core.storage import QueueStorage
from jobq_server.autoscaling.look import BacklogReader
from jobq_server.autoscaling.options import Autoscaler, check_autoscale
from jobq_server.autoscaling.scaling import Pool, Scaling, ScalingStats
from jobq_server.process_pool import ProcessPool
from jobq_server.stats import ServerStats
from jobq_server.web_options import WebOptions, check_web
from jobq_server.web_port import serve_web
from jobq_worker import JobQueueWorker, PoolStats, ServingOptions, WorkerHealth, WorkerOptions
from jobq_worker.liveness.loop_watch import LoopWatch
from jobq_worker.loops import Loop
from jobq_worker.options import MAX_PROCESSES, check_concurrency, given_options
from jobq_worker.probes import livez
from jobq_worker.processes.signals import Signals
from jobq_worker.processes.stop_guard import StopGuard


class ServerKeywords(ServingOptions, total=False):
    """The options of a server; `WorkerOptions` describes each."""

    worker_count: int


class JobQueueServer(JobQueueWorker):
    """A pool of workers: `async with JobQueueServer(storage, jobs=[…])`, or `start()` and `stop()`, or `run()`.

    storage: a URL, which the server opens and closes (default: the environment variable JOBQ_STORAGE); or an open
        QueueStorage, which the caller closes.
    options: all options as one checked value, instead of keywords.
    processes: the number of child processes that run the jobs, each with worker_count workers (default None: this
        process runs them). The storage must be given by URL, the jobs be declared in modules that can be imported, and
        what is around a handler, a limiter and a retention cannot be given. Such a server emits no events, counts from
        the last heartbeats, and cannot be scaled.
    autoscale: scales the number of workers by that of waiting jobs (default None: it stays as it is set). The server
        starts with worker_count workers, or the number between the Autoscaler's min and max that is closest to it. With
        processes, each process scales its own workers. With the Autoscaler's max_processes, the number of processes is
        scaled too, from `processes` or min_processes on; what is said of processes above holds then.
    web: serves the dashboard and the HTTP API while the server runs, until its last job has ended (default None: it
        serves none). Needs the extra `web`.

    The keywords are the fields of `WorkerOptions`, of which `concurrency` is called worker_count here: how many workers
    there are, each of which runs one job at a time (default 10); 0 pauses. Raises ConfigurationError for an option that
    does not exist or cannot work.

    As an event source it emits the events of its pool: JobStarted, JobProgressed, JobCompleted, JobFailed, JobRetried,
    JobAborted and JobDisabled for the jobs that it runs, WorkerStarted and WorkerStopped for the pool as a whole, and
    WorkerLost for other processes whose jobs it rescued.
    """

    _noun = "server"
    _renamed: ClassVar[Mapping[str, str]] = {"concurrency": "worker_count"}

    def __init__(
        self,
        storage: QueueStorage | str | None = None,
        options: WorkerOptions | None = None,
        *,
        processes: int | None = None,
        autoscale: Autoscaler | None = None,
        web: WebOptions | None = None,
        **keywords: Unpack[ServerKeywords],
    ) -> None:
        options = given_options("JobQueueServer", options, keywords, renamed=self._renamed)
        super().__init__(storage, options)
        self._pool: ProcessPool | None = None
        self._processes = processes
        self._autoscaler = check_autoscale(autoscale)
        self._scaling: Scaling | None = None
        self._scaling_task: asyncio.Task[None] | None = None
        self._web: WebOptions | None = None
        self._web_port: int | None = None
        self._web_stack = contextlib.AsyncExitStack()
        self._set_web(web)
        self._make_scaling()
        self._make_pool(storage)

    def configure(
        self,
        storage: QueueStorage | str | None = None,
        *,
        autoscale: Autoscaler | None = None,
        web: WebOptions | None = None,
        **keywords: Any,
    ) -> None:
        super().configure(storage, **keywords)
        self._autoscaler = check_autoscale(autoscale) or self._autoscaler
        self._set_web(web)
        self._make_scaling()
        self._make_pool(storage)

    def _make_scaling(self) -> None:
        if self._autoscaler is not None and not self._wants_processes:
            self._slots.resize(self._autoscaler.clamp(len(self._slots)))
            reader = BacklogReader(lambda: self.storage, self.queues)
            pool = Pool(self.name, self._slots, self.resize)
            self._scaling = Scaling(self._autoscaler, pool, reader.look)

    @property
    def _wants_processes(self) -> bool:
        return self._processes is not None or (self._autoscaler is not None and self._autoscaler.scales_processes)

    def _make_pool(self, storage: QueueStorage | str | None) -> None:
        if self._wants_processes:
            given = 1 if self._processes is None else self._processes
            count = check_count(given, "processes", least=1, most=MAX_PROCESSES)
            if self._autoscaler is not None and self._autoscaler.scales_processes:
                count = self._autoscaler.of_processes().clamp(count)
            url = storage or (os.environ.get("JOBQ_STORAGE") if self._pool is None else self._pool.storage)
            self._pool = ProcessPool(count, self._options, self.queues, url, self._autoscaler)

    @property
    def worker_count(self) -> int:
        """The number of workers."""
        return self.concurrency

    @property
    def autoscaler(self) -> Autoscaler | None:
        """What scales the number of workers and of processes; None if nothing does."""
        return self._autoscaler

    @property
    def web_port(self) -> int | None:
        """The port on which it serves the dashboard and the API now; None while it serves none."""
        return self._web_port

    def _set_web(self, web: WebOptions | None) -> None:
        before, self._web = self._web, check_web(web) or self._web
        if before is None and self._web is not None and not self._wants_processes:
            self._around.add_lifespan(self._open_web)

    def _open_web(self) -> AbstractAsyncContextManager[None]:
        def set_port(port: int | None) -> None:
            self._web_port = port

        return contextlib.nullcontext() if self._web is None else serve_web(self, self._web, on_port=set_port)

    @property
    def has_processes(self) -> bool:
        return self._pool is not None

    def scale(self, worker_count: int) -> None:
        """Have this many workers from now on, whether the server runs or not; 0 pauses it.

        Surplus workers finish their jobs first. Raises ConfigurationError for anything but a whole number from 0 to
        100,000, with processes, and with an Autoscaler.
        """
        if self._pool is not None:
            raise ConfigurationError("a server with processes cannot be scaled; start it with another worker_count")
        if self._autoscaler is not None:
            raise ConfigurationError(
                f"an Autoscaler scales this server, from {self._autoscaler.min} to {self._autoscaler.max} workers; "
                "make the server without autoscale to scale it yourself"
            )
        self.resize(check_concurrency(worker_count, "worker_count"))

    def _check_not_started(self, what: str) -> None:
        if self._pool is not None and what != "an option":
            raise ConfigurationError(
                f"{what} of this program cannot be passed to processes=N; run "
                "`jobq server MODULE:SERVER --processes N`, whose processes import the module of the server"
            )
        super()._check_not_started(what)

    async def _start(self) -> None:
        if self._pool is None:
            await super()._start()
            if self._scaling is not None:
                self._scaling.restart()
                loop = Loop("autoscaling", self._scaling.step, self._outages)
                self._scaling_task = asyncio.create_task(loop.run(), name="jobq autoscaling")
            return
        before, self._state = self._state, "starting"
        try:
            await self._owned.open()
            await self._web_stack.enter_async_context(self._open_web())
            await self._pool.start()
        except BaseException:
            self._state = before
            await self._web_stack.aclose()
            await self._owned.close()
            raise
        self._state = "running"

    async def _stop(self) -> None:
        if self._scaling_task is not None:
            self._scaling_task.cancel()
            await asyncio.wait([self._scaling_task])
            self._scaling_task = None
        await super()._stop()

    def _abandon(self) -> None:
        self._scaling_task = None
        super()._abandon()

    async def stop(self, timeout: Seconds | None = None) -> None:
        """Stop as a worker does; with processes, wait for each, and stop what runs after `timeout` seconds."""
        pool = self._pool
        if pool is None:
            await super().stop(timeout)
        elif self.is_running:
            self._loop = None
            self._state = "stopping"
            self._manager.stopping()
            try:
                await pool.stop(None if timeout is None else check_seconds(timeout, "timeout"))
            finally:
                self._state = "stopped"
                await self._web_stack.aclose()
                await self._owned.close()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, as a worker does; with processes, exit with the highest of their codes."""
        if self._pool is None:
            await super().run()
            return
        code = 0
        with (
            Signals(StopGuard(self._options.stop_timeout, LoopWatch())) as signals,
            self._serving_manager() as manager,
        ):
            if await self._start_unless_stopped(self._pool, signals):
                manager.serve(lambda: livez(self.health()).ok)
                try:
                    code = await self._until_ended(self._pool, signals)
                finally:
                    await self.stop()
        if code:
            raise SystemExit(code)

    async def _start_unless_stopped(self, pool: ProcessPool, signals: Signals) -> bool:
        """Start; return False if a signal came before all processes had started."""
        if self.is_running:
            return True
        signal = asyncio.ensure_future(signals.wait())
        starting = asyncio.ensure_future(self.start())
        try:
            await asyncio.wait([signal, starting], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            signal.cancel()
            starting.cancel()
            await asyncio.wait([starting])
            raise
        if signal.cancel() or starting.done():
            await starting
            return True
        pool.begin_stop()
        with contextlib.suppress(ConfigurationError):
            await starting
            await self.stop()
        return False

    async def _until_ended(self, pool: ProcessPool, signals: Signals) -> int:
        """Wait until the processes have ended by themselves or after a signal; return the exit code."""
        ended = asyncio.ensure_future(pool.wait())
        for count in (1, 2):
            signal = asyncio.ensure_future(signals.wait(count))
            await asyncio.wait([signal, ended], return_when=asyncio.FIRST_COMPLETED)
            signal.cancel()
            if not ended.done():
                self._manager.stopping()
                pool.begin_stop()
        return await ended

    def health(self) -> WorkerHealth:
        """Return the health of the pool; with processes, `alive` is whether the worker of each runs."""
        if self._pool is None:
            return super().health()
        return WorkerHealth(state=self._state, alive=self._state == "running" and self._pool.serves)

    async def stats(self) -> ServerStats:
        """Return the counts of this pool, of every worker process of the storage, and of the jobs in each queue.

        Raises StorageError; ClosedError on a stopped server whose storage was given by URL. `pool_stats` still works
        then.
        """
        storage = self.storage
        at, records, counts = await storage.now(), await storage.workers(), await storage.counts()
        pool = self.pool_stats() if self._pool is None else _sum_of(records, self._pool.pids())
        others = [record for record in records if record.info.id != self.id]
        return ServerStats(
            at=at,
            pool=pool,
            workers=tuple(self._updated(record, pool) for record in records),
            total=sum((record.stats for record in others), WorkerStats() if self._pool else pool.total),
            counts=counts,
            scaling=self._scaling_stats(),
        )

    def _scaling_stats(self) -> ScalingStats | None:
        if self._pool is not None:
            return self._pool.scaling
        return None if self._scaling is None else self._scaling.stats

    def _updated(self, record: WorkerRecord, pool: PoolStats) -> WorkerRecord:
        if record.info.id != self.id:
            return record
        # The storage has the counts of the last heartbeat.
        last = record.stats
        stats = replace(
            pool.total,
            loop_lag=last.loop_lag,
            hears=last.hears,
            limited=last.limited,
            memory=last.memory,
            processor=last.processor,
        )
        return replace(record, stats=stats)


def _sum_of(records: Sequence[WorkerRecord], pids: Collection[int]) -> PoolStats:
    """Return the counts of the last heartbeats of these processes of this host."""
    host = socket.gethostname()
    own = [record.stats for record in records if record.info.host == host and record.info.pid in pids]
    return PoolStats(total=sum(own, WorkerStats()), workers=())
