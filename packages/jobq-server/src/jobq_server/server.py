"""`JobQueueServer`: a worker that shows its slots as a pool of workers, and reports on the whole storage.

All workers of the pool share one fetcher, one heartbeat, one subscription and one share of the maintenance, so that an
idle pool of ten costs the database as much as one worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Unpack

from msgspec.structs import replace

from jobq_core.records import WorkerRecord
from jobq_core.storage import QueueStorage
from jobq_server.stats import ServerStats
from jobq_worker import JobQueueWorker, PoolStats, ServingOptions, WorkerOptions
from jobq_worker.options import check_concurrency, given_options


class ServerKeywords(ServingOptions, total=False):
    """The options of a server; `WorkerOptions` describes each."""

    worker_count: int


class JobQueueServer(JobQueueWorker):
    """A pool of workers: `async with JobQueueServer(storage, jobs=[…])`, or `start()` and `stop()`, or `run()`.

    storage: a URL, which the server opens and closes (default: the environment variable JOBQ_STORAGE); or an open
        QueueStorage, which the caller closes.
    options: all options as one checked value, instead of keywords.

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
        **keywords: Unpack[ServerKeywords],
    ) -> None:
        super().__init__(storage, given_options("JobQueueServer", options, keywords, renamed=self._renamed))

    @property
    def worker_count(self) -> int:
        """The number of workers."""
        return self.concurrency

    def scale(self, worker_count: int) -> None:
        """Have this many workers from now on, whether the server runs or not; 0 pauses it.

        Surplus workers finish their jobs first. Raises ConfigurationError for anything but a whole number from 0 to
        100,000.
        """
        self.resize(check_concurrency(worker_count, "worker_count"))

    async def stats(self) -> ServerStats:
        """Return the counts of this pool, of every worker process of the storage, and of the jobs in each queue.

        Raises StorageError; ClosedError on a stopped server whose storage was given by URL. `pool_stats` still works
        then.
        """
        storage = self.storage
        at, records, counts = await storage.now(), await storage.workers(), await storage.counts()
        pool = self.pool_stats()
        others = [record for record in records if record.info.id != self.id]
        return ServerStats(
            at=at,
            pool=pool,
            workers=tuple(self._updated(record, pool) for record in records),
            total=sum((record.stats for record in others), pool.total),
            counts=counts,
        )

    def _updated(self, record: WorkerRecord, pool: PoolStats) -> WorkerRecord:
        if record.info.id != self.id:
            return record
        # The storage has the counts of the last heartbeat, and the number of workers at the start.
        return replace(record, stats=pool.total, info=replace(record.info, concurrency=self.concurrency))
