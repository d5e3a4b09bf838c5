"""`JobQueue`: one named queue with all its parts in one object, for a program that is one process.

It holds a `JobQueueClient` and a `JobQueueServer` over one storage and does nothing itself: what is called on it is
called on one of them, and a program that grows takes them apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload
from uuid import UUID

from jobq_client import JobHandle, JobKey, JobQueueClient
from jobq_core.adding import AddOptions
from jobq_core.errors import ConfigurationError
from jobq_core.events import E, Event, EventSource, JobAborted, JobDisabled, RunEvent, WorkerStarted
from jobq_core.job import Job, check_name
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import JobRecord, Progress
from jobq_core.registry import Jobs
from jobq_core.states import JobState
from jobq_core.storage import Page, QueueStorage
from jobq_server.modes import QueueMode, no_client, no_server, parse_mode
from jobq_server.options import PoolOptions
from jobq_server.ownership import Holding
from jobq_server.server import F, JobQueueServer
from jobq_server.stats import ServerStats
from jobq_worker import WorkerHealth

R = TypeVar("R")


class JobQueue(EventSource):
    """A queue to add jobs to, and the workers that run them: `async with JobQueue("mail", jobs=[…]) as queue`.

    name: the queue. Its jobs go there, whatever queue their declaration names, and its workers take jobs from there
        alone.
    jobs: what its workers can run: declared functions and classes, or modules to take all of them from.
    storage: a URL, opened at each start and closed at each stop; an open storage, which stays the caller's; or None
        for memory, whose jobs last as long as this object.
    mode: BOTH (default); CLIENT adds jobs and waits for them, and runs none; SERVER runs jobs, and adds none.
    worker_count: how many jobs run at the same time (default 10); 0 pauses. See `scale`.

    The other options are those of `PoolOptions`; a CLIENT has no use for them. Raises ConfigurationError for one that
    cannot work. What belongs to a part that the mode leaves out raises QueueModeError.

    As a source of events it tells what its client and its server tell, and each thing once: of a job that its own
    server ran, the server tells, added here or elsewhere; of a job that ran elsewhere, or ended while it waited to
    run, the client tells, as far as it waits for, follows or watches it.
    """

    def __init__(
        self,
        name: str,
        *,
        jobs: Jobs = (),
        storage: QueueStorage | str | None = None,
        mode: QueueMode | str = QueueMode.BOTH,
        worker_count: int = 10,
        **options: Unpack[PoolOptions],
    ) -> None:
        super().__init__()
        self._name = check_name(name, "the name of a queue")
        self._mode = parse_mode(mode)
        self._holding = Holding.owning(MemoryQueueStorage()) if storage is None else Holding(storage)
        self._moving = asyncio.Lock()
        self._opened = False
        self._client: JobQueueClient | None = None
        self._server: JobQueueServer | None = None
        self._own_workers: set[UUID] = set()  # the server's id changes at each start
        if self._mode.has_client:
            self._client = JobQueueClient(self._holding.storage, self._name)
        if self._mode.has_server:
            self._server = JobQueueServer(
                self._holding.storage, jobs=jobs, queues=[self._name], worker_count=worker_count, **options
            )
            self._server.on(WorkerStarted, lambda event: self._own_workers.add(event.worker))

    @property
    def name(self) -> str:
        """The queue."""
        return self._name

    @property
    def mode(self) -> QueueMode:
        """Which parts it has."""
        return self._mode

    @property
    def storage(self) -> QueueStorage:
        """Where its jobs are; one that was not the caller's is open while the queue runs."""
        return self._holding.storage

    @property
    def client(self) -> JobQueueClient:
        """The part that adds and watches jobs. Raises QueueModeError in mode SERVER."""
        if self._client is None:
            raise no_client(self._name)
        return self._client

    @property
    def server(self) -> JobQueueServer:
        """The part that runs jobs. Raises QueueModeError in mode CLIENT."""
        if self._server is None:
            raise no_server(self._name)
        return self._server

    # Life

    async def start(self) -> None:
        """Open the storage, if it is not the caller's, and start the parts.

        Raises as their `start` does, and ConfigurationError for a queue that runs already; it is then as it was
        before.
        """
        async with self._moving:
            await self._open()
            try:
                if self._server is not None:
                    await self._server.start()
            except BaseException:
                await self._close()
                raise

    async def stop(self, timeout: float | None = None) -> None:
        """Stop the workers as `JobQueueServer.stop` does, then the client; waits that go on end with ClosedError.

        The client goes last: a job that runs to its end while the workers stop may still add others. Stopping twice
        changes nothing; it can be started again.
        """
        async with self._moving:
            pass
        try:
            if self._server is not None:
                await self._server.stop(timeout)
        finally:
            await self._stopped()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, as `JobQueueServer.run` does. Raises QueueModeError in mode CLIENT."""
        server = self.server
        async with self._moving:
            await self._open()
        try:
            await server.run()
        finally:
            await self._stopped()

    async def _open(self) -> None:
        if self._opened:
            raise ConfigurationError(f"queue {self._name!r} runs already; stop it before it is started again")
        self._opened = True
        try:
            await self._holding.open()
            if self._client is not None:
                await self._client.start()
        except BaseException:
            await self._close()
            raise

    async def _stopped(self) -> None:
        # Whoever waited for the same stop may have started the queue again by now.
        async with self._moving:
            if self._server is None or self._server.health().state != "running":
                await self._close()

    async def _close(self) -> None:
        self._opened = False
        try:
            if self._client is not None:
                await self._client.stop()
        finally:
            await self._holding.close()
            self.close_events()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # The client's

    async def add(self, job: Job[R], *, connection: Any = None, **options: Unpack[AddOptions]) -> JobHandle[R]:
        """Add a job, as `JobQueueClient.add` does, to this queue unless `queue` names another."""
        options.setdefault("queue", self._name)
        return await self.client.add(job, connection=connection, **options)

    async def add_many(
        self, jobs: Iterable[Job[R]], *, connection: Any = None, **options: Unpack[AddOptions]
    ) -> list[JobHandle[R]]:
        """Add jobs in one round trip, as `JobQueueClient.add_many` does, to this queue unless `queue` names another."""
        options.setdefault("queue", self._name)
        return await self.client.add_many(jobs, connection=connection, **options)

    @overload
    async def wait_for(self, job: JobHandle[R], *, timeout: float | None = None) -> R: ...
    @overload
    async def wait_for(self, job: UUID | str, *, timeout: float | None = None) -> Any: ...
    async def wait_for(self, job: JobKey, *, timeout: float | None = None) -> Any:
        """Wait until a job is over and return its result, or raise what it ended with: `JobQueueClient.wait_for`."""
        return await self.client.wait_for(job, timeout=timeout)

    def on_progress(
        self, job: JobKey, callback: Callable[[Progress], object | Awaitable[object]]
    ) -> Callable[[], None]:
        """Call back at every change of a job's progress until its end: `JobQueueClient.on_progress`."""
        return self.client.on_progress(job, callback)

    def follow(self, job: JobKey) -> AsyncIterator[Progress]:
        """Iterate over a job's progress until its end: `JobQueueClient.follow`."""
        return self.client.follow(job)

    async def get(self, job: JobKey) -> JobRecord | None:
        """Return all that is known of a job; None if there is no such job."""
        return await self.client.get(job)

    async def find(
        self,
        *,
        state: JobState | Iterable[JobState] = (),
        kind: str | Iterable[str] = (),
        tag: str | Iterable[str] = (),
        run_id: str | None = None,
        after: JobKey | None = None,
        limit: int = 100,
    ) -> Page:
        """Return a page of this queue's jobs, newest first: `JobQueueClient.find`."""
        return await self.client.find(
            state=state, queue=self._name, kind=kind, tag=tag, run_id=run_id, after=after, limit=limit
        )

    async def size(self, *, state: JobState = JobState.PENDING) -> int:
        """Count the jobs of this queue in one state (default: PENDING)."""
        return await self.client.size(state=state)

    async def counts(self) -> dict[JobState, int]:
        """Count the jobs of this queue by state; all eight are in the answer."""
        return await self.client.counts()

    async def abort(self, job: JobKey) -> bool:
        """Abort a job wherever it is: `JobQueueClient.abort`."""
        return await self.client.abort(job)

    async def retry(self, job: JobKey) -> bool:
        """Put a FAILED or ABORTED job back to the end of the line: `JobQueueClient.retry`."""
        return await self.client.retry(job)

    async def disable(self, job: JobKey) -> bool:
        """Put a job aside until it is enabled: `JobQueueClient.disable`."""
        return await self.client.disable(job)

    async def enable(self, job: JobKey) -> bool:
        """Let a disabled job run again: `JobQueueClient.enable`."""
        return await self.client.enable(job)

    async def delete(self, job: JobKey) -> bool:
        """Remove a job in any state, with its history: `JobQueueClient.delete`."""
        return await self.client.delete(job)

    # The server's

    def handles(self, job_type: type[Job[Any]]) -> Callable[[F], F]:
        """Supply the body of a bare contract by decorating a function of it: `JobQueueServer.handles`."""
        return self.server.handles(job_type)

    def scale(self, worker_count: int) -> None:
        """Have this many workers from now on; 0 pauses: `JobQueueServer.scale`."""
        self.server.scale(worker_count)

    async def stats(self) -> ServerStats:
        """Return what the workers here and elsewhere did, and how many jobs wait where: `JobQueueServer.stats`."""
        return await self.server.stats()

    def health(self) -> WorkerHealth:
        """Return how its workers are: `JobQueueServer.health`."""
        return self.server.health()

    # Events of both, each once

    def on(self, event_type: type[E], callback: Callable[[E], object | Awaitable[object]]) -> Callable[[], None]:
        """Call `callback` with each event of this type or a subtype; returns a function that ends it."""
        cancels: list[Callable[[], None]] = []
        if self._server is not None:
            cancels.append(self._server.on(event_type, callback))
        if self._client is not None:
            cancels.append(self._client.on(event_type, self._unless_the_server_tells(callback)))

        def cancel() -> None:
            for one in cancels:
                one()

        return cancel

    def _unless_the_server_tells(
        self, callback: Callable[[E], object | Awaitable[object]]
    ) -> Callable[[E], object | Awaitable[object]]:
        if self._server is None:
            return callback

        def filtered(event: E) -> object | Awaitable[object]:
            return None if isinstance(event, RunEvent) and self._server_tells(event) else callback(event)

        return filtered

    def _server_tells(self, event: RunEvent) -> bool:
        if event.worker is None or (event.worker != self.server.id and event.worker not in self._own_workers):
            return False
        # A job that was put aside between two runs still names the worker of the last one, which knows nothing of
        # it. It has no error then, as what is stopped while it runs always has.
        return not isinstance(event, (JobAborted, JobDisabled)) or event.error is not None

    def wants(self, event_type: type[Event]) -> bool:
        """Say whether anybody listens for this type."""
        return any(part is not None and part.wants(event_type) for part in (self._client, self._server))
