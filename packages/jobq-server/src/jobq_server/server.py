"""`JobQueueServer`: a pool of workers in one process, scaled while it runs.

The pool is one engine, a `JobQueueWorker`, and its slots are the pool's workers: one fetcher, one heartbeat row, one
doorbell and one part in the maintenance, however many workers there are. So an idle pool of ten costs the database
what one worker costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from uuid import UUID

from msgspec.structs import replace

from jobq_core.errors import ConfigurationError
from jobq_core.events import E, Event, EventSource
from jobq_core.job import Job
from jobq_core.records import WorkerRecord
from jobq_core.registry import Jobs
from jobq_core.storage import QueueStorage
from jobq_server.options import PoolOptions
from jobq_server.ownership import Holding
from jobq_server.stats import PoolStats, ServerStats
from jobq_worker import JobQueueWorker, WorkerHealth
from jobq_worker.options import check_concurrency

F = TypeVar("F", bound=Callable[..., Any])


class JobQueueServer(EventSource):
    """A pool of workers: `async with JobQueueServer(storage, jobs=[…])`, or `start()` and `stop()`, or `run()`.

    storage: a URL, which is opened at each start and closed at each stop, or an open storage, which stays the caller's.
    jobs: what the pool can run: declared functions and classes, or modules to take all of them from.
    worker_count: how many workers, that is, how many jobs run at the same time (default 10); 0 pauses. See `scale`.
    queues: where it takes jobs from; several get their turns (default: the queues that its jobs declare, and 'default'
        for those that declare none).
    name: what people call the pool (default: the host's name). Its `id` is new at each start.

    The other options are those of `PoolOptions`. Raises ConfigurationError for one that cannot work.

    As a source of events it tells what its pool does: JobStarted, JobProgressed, JobCompleted, JobFailed, JobRetried,
    JobAborted and JobDisabled of the jobs that it runs, WorkerStarted and WorkerStopped of the pool as a whole, and
    WorkerLost of other processes whose jobs it took back.
    """

    def __init__(
        self,
        storage: QueueStorage | str,
        *,
        jobs: Jobs = (),
        worker_count: int = 10,
        queues: Sequence[str] | None = None,
        name: str | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        super().__init__()
        self._holding = Holding(storage)
        self._moving = asyncio.Lock()
        self._engine = JobQueueWorker(
            self._holding.storage,
            jobs=jobs,
            queues=queues,
            concurrency=check_concurrency(worker_count, "worker_count"),
            name=name,
            **options,
        )

    # Life

    async def start(self) -> None:
        """Open the storage, if it was given by URL, and begin to claim jobs.

        Raises ConfigurationError for jobs that cannot run here and for a server that runs already; StorageError for a
        storage that cannot be used. The server is then as it was before.
        """
        async with self._moving:
            self._check_idle()
            try:
                await self._holding.open()
                await self._engine.start()
            except BaseException:
                await self._holding.close()
                raise

    async def stop(self, timeout: float | None = None) -> None:
        """Claim no more, let running jobs end for up to `timeout` seconds, then stop the others and hand them back.

        timeout: default stop_timeout. A second call while it stops shortens the wait. Does nothing on a server that
        does not run; one that is starting is stopped when it has. A stopped one can be started again.
        """
        async with self._moving:
            pass
        try:
            await self._engine.stop(timeout)
        finally:
            await self._stopped()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop as `stop()` does; a second signal stops at once.

        Returns when the server has stopped, by a signal or by `stop()`. Raises what `start` raises.
        """
        async with self._moving:
            self._check_idle()
            await self._holding.open()
        try:
            await self._engine.run()
        finally:
            await self._stopped()

    def _check_idle(self) -> None:
        if self._runs():
            raise ConfigurationError(f"the server is {self.health().state}; stop it before it is started again")

    def _runs(self) -> bool:
        return self.health().state not in ("new", "stopped")

    async def _stopped(self) -> None:
        # Whoever waited for the same stop may have started the server again by now.
        async with self._moving:
            if not self._runs():
                await self._holding.close()
                self.close_events()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # The pool

    def handles(self, job_type: type[Job[Any]]) -> Callable[[F], F]:
        """Supply the body of a bare contract, a Job class without `execute`, by decorating a function of it.

        The function takes (job) or (job, context), and may be a coroutine function. Raises ConfigurationError for a
        kind that has a body, and while the server runs.
        """
        return self._engine.handles(job_type)

    def scale(self, worker_count: int) -> None:
        """Have this many workers from now on, whether the server runs or not; 0 pauses it.

        Workers that are no longer wanted finish the jobs that they run. Raises ConfigurationError for a number below
        0 and for what is no whole number.
        """
        self._engine.resize(check_concurrency(worker_count, "worker_count"))

    @property
    def worker_count(self) -> int:
        """How many workers it has."""
        return self._engine.concurrency

    @property
    def queues(self) -> tuple[str, ...]:
        """Where it takes jobs from."""
        return self._engine.queues

    @property
    def name(self) -> str:
        """What people call it."""
        return self._engine.name

    @property
    def id(self) -> UUID | None:
        """The id under which its storage knows it, new at each start; None before the first."""
        return self._engine.id

    @property
    def storage(self) -> QueueStorage:
        """Where its jobs are; one that was given by URL is open while the server runs."""
        return self._holding.storage

    def health(self) -> WorkerHealth:
        """Return how the pool is; `healthy` says whether it runs, counts as alive and reaches the storage."""
        return self._engine.health()

    def pool_stats(self) -> PoolStats:
        """Return what this pool did since the server was made, without asking the storage."""
        return PoolStats(total=self._engine.stats(), workers=tuple(self._engine.slots()))

    async def stats(self) -> ServerStats:
        """Return what this pool did, every worker that the storage knows, and how many jobs wait where.

        Raises StorageError; ClosedError on a stopped server whose storage was given by URL (`pool_stats` still works).
        """
        storage = self._holding.storage
        at, records, counts = await storage.now(), await storage.workers(), await storage.counts()
        pool = self.pool_stats()
        others = [record for record in records if record.info.id != self.id]
        return ServerStats(
            at=at,
            pool=pool,
            workers=tuple(self._as_of_now(record, pool) for record in records),
            total=sum((record.stats for record in others), pool.total),
            counts=counts,
        )

    def _as_of_now(self, record: WorkerRecord, pool: PoolStats) -> WorkerRecord:
        if record.info.id != self.id:
            return record
        # The storage has the statistics of the last heartbeat, and the number of workers that there were at the start.
        return replace(record, stats=pool.total, info=replace(record.info, concurrency=self._engine.concurrency))

    # Events: the engine's are the server's

    def on(self, event_type: type[E], callback: Callable[[E], object | Awaitable[object]]) -> Callable[[], None]:
        """Call `callback` with each event of this type or a subtype; returns a function that ends it."""
        return self._engine.on(event_type, callback)

    def wants(self, event_type: type[Event]) -> bool:
        """Say whether anybody listens for this type."""
        return self._engine.wants(event_type)

    def emit(self, event: Event) -> None:
        """Tell everybody who listens for this event's type or one that it is a subtype of."""
        self._engine.emit(event)
