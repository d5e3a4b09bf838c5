"""Eager clients, for tests: a job runs in the test's own process when it is added.

`EagerJobQueueClient` and `EagerSyncJobQueueClient` take the place of the app's client in a test. Each `add` runs what
is due, as `jobq_core.testing.drain` does, before it returns. That shows less than a drain at the end of the test:

- A handler sees what the caller has not yet committed, and runs although the caller's transaction may be rolled back.
- Nothing runs at the same time as the caller, and nothing runs late, twice or in another order.
- With `raises`, `add` raises what the handler raises; in production it never does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, Unpack

from jobq_client.client import JobQueueClient
from jobq_client.handle import JobHandle
from jobq_client.sync_client import SyncJobQueueClient
from jobq_client.sync_handle import SyncJobHandle
from jobq_core.adding import AddOptions
from jobq_core.job import Job
from jobq_core.registry import Jobs
from jobq_core.storage import QueueStorage
from jobq_core.testing import drain, drain_sync

R = TypeVar("R")


class EagerJobQueueClient(JobQueueClient):
    """A JobQueueClient whose `add` and `add_many` return when the added jobs, and those that they added, have run.

    A job with a delay, and a retry, wait: `storage.clock.advance` makes them due, and the next `add` or `drain` runs
    them. Needs the distribution jobq-worker.

    storage: memory storage, as of `JobQueueClient` (default: jobs of its own).
    jobs: the jobs that can be run (default: all that this process has declared).
    worker: the JobQueueWorker whose jobs and handlers are used, instead of `jobs`.
    raises: whether `add` raises what the first failed run raised (default True).
    """

    def __init__(
        self,
        storage: QueueStorage | str = "memory://",
        queue: str = "default",
        *,
        jobs: Jobs | None = None,
        worker: Any = None,
        raises: bool = True,
    ) -> None:
        super().__init__(storage, queue)
        self._jobs, self._worker, self._raises = jobs, worker, raises

    async def add(self, job: Job[R], *, connection: Any = None, **options: Unpack[AddOptions]) -> JobHandle[R]:
        """Add a job as `JobQueueClient.add` does, and run what is due."""
        handle = await super().add(job, connection=connection, **options)
        await self._drain()
        return handle

    async def add_many(
        self, jobs: Iterable[Job[R]], *, connection: Any = None, **options: Unpack[AddOptions]
    ) -> list[JobHandle[R]]:
        """Add jobs as `JobQueueClient.add_many` does, and run what is due."""
        handles = await super().add_many(jobs, connection=connection, **options)
        await self._drain()
        return handles

    async def _drain(self) -> None:
        await drain(self, jobs=self._jobs, worker=self._worker, raises=self._raises)


class EagerSyncJobQueueClient(SyncJobQueueClient):
    """A SyncJobQueueClient whose `add` and `add_many` return when the added jobs, and those that they added, have run.

    Sync handlers run in the thread that adds. The parameters are those of `EagerJobQueueClient`.
    """

    def __init__(
        self,
        storage: QueueStorage | str = "memory://",
        queue: str = "default",
        *,
        jobs: Jobs | None = None,
        worker: Any = None,
        raises: bool = True,
    ) -> None:
        super().__init__(storage, queue)
        self._jobs, self._worker, self._raises = jobs, worker, raises

    def add(self, job: Job[R], *, connection: Any = None, **options: Unpack[AddOptions]) -> SyncJobHandle[R]:
        """Add a job as `SyncJobQueueClient.add` does, and run what is due."""
        handle = super().add(job, connection=connection, **options)
        self._drain()
        return handle

    def add_many(
        self, jobs: Iterable[Job[R]], *, connection: Any = None, **options: Unpack[AddOptions]
    ) -> list[SyncJobHandle[R]]:
        """Add jobs as `SyncJobQueueClient.add_many` does, and run what is due."""
        handles = super().add_many(jobs, connection=connection, **options)
        self._drain()
        return handles

    def _drain(self) -> None:
        drain_sync(self, jobs=self._jobs, worker=self._worker, raises=self._raises)
