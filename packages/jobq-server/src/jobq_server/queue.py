"""`JobQueue`: one named queue with all its parts in one object, for a program of one process.

It holds a `JobQueueClient` and a `JobQueueServer` over one storage, and forwards each call to one of them. A program
that grows into several processes uses the two directly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, Unpack, overload
from uuid import UUID

from jobq_core.events import E, Event, JobAborted, JobDisabled, RunEvent, WorkerStarted
from jobq_core.job import Job
from jobq_core.registry import Jobs
from jobq_core.storage import QueueStorage
from jobq_server.autoscaling.options import Autoscaler
from jobq_server.modes import QueueMode
from jobq_server.queue_client import QueueClient
from jobq_server.stats import ServerStats
from jobq_worker import PoolOptions, WorkerHealth
from jobq_worker.around.lifespan import LifespanFunction
from jobq_worker.around.middleware import MiddlewareFunction
from jobq_worker.around.providers import Scope

F = TypeVar("F", bound=Callable[..., Any])
L = TypeVar("L", bound=LifespanFunction)
M = TypeVar("M", bound=MiddlewareFunction)


class JobQueue(QueueClient):
    """A queue and the workers that run its jobs: `async with JobQueue("mail", jobs=[…]) as queue`.

    name: the queue. Its jobs are added to it, whatever queue their declaration names, and its workers take jobs from it
        alone.
    jobs: the jobs that its workers can run: declared functions and classes, or modules to take all of them from.
    storage: a URL, which the queue opens and closes; an open QueueStorage, which the caller closes; or None (default)
        for memory, whose jobs last as long as this object.
    mode: BOTH (default); CLIENT adds jobs, waits for them and runs none; SERVER runs jobs and adds none. `start(mode)`
        chooses another mode for one start.
    worker_count: how many jobs run at the same time (default 10); 0 pauses. See `scale`.
    autoscale: scales worker_count by the number of waiting jobs (default None: it stays as it is set).

    The other options are those of `PoolOptions`; all are checked in every mode. Raises ConfigurationError for an option
    that does not exist or cannot work. A call on a part that the mode excludes raises QueueModeError.

    As an event source it emits the events of its client and its server, each once: the server's for a job that this
    server ran, wherever the job was added; the client's for a job that ran elsewhere or ended before it ran, if the
    client waits for, follows or watches it.
    """

    def __init__(
        self,
        name: str,
        *,
        jobs: Jobs = (),
        storage: QueueStorage | str | None = None,
        mode: QueueMode | str = QueueMode.BOTH,
        worker_count: int = 10,
        autoscale: Autoscaler | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        super().__init__(
            name, jobs=jobs, storage=storage, mode=mode, worker_count=worker_count, autoscale=autoscale, **options
        )
        self._own_workers: set[UUID] = set()  # the server's id changes at each start
        self._server.on(WorkerStarted, lambda event: self._own_workers.add(event.worker))

    def handles(self, job_type: type[Job[Any]]) -> Callable[[F], F]:
        """Decorate a function as the handler of a Job class that has no `execute`: `JobQueueServer.handles`."""
        return self.server.handles(job_type)

    def middleware(self, function: M) -> M:
        """Decorate a function that runs around each handler: `JobQueueServer.middleware`."""
        return self.server.middleware(function)

    def lifespan(self, function: L) -> L:
        """Decorate a function that is open while the workers run: `JobQueueServer.lifespan`."""
        return self.server.lifespan(function)

    @overload
    def provides(self, function: F, /) -> F: ...
    @overload
    def provides(self, function: None = None, /, *, scope: Scope = "worker") -> Callable[[F], F]: ...
    def provides(self, function: Any = None, /, *, scope: Scope = "worker") -> Any:
        """Decorate a function that provides a resource of handlers: `JobQueueServer.provides`."""
        return self.server.provides(function, scope=scope)

    def scale(self, worker_count: int) -> None:
        """Have this many workers from now on; 0 pauses: `JobQueueServer.scale`."""
        self.server.scale(worker_count)

    async def stats(self) -> ServerStats:
        """Return the counts of all workers, here and elsewhere, and of the jobs by queue: `JobQueueServer.stats`."""
        return await self.server.stats()

    def health(self) -> WorkerHealth:
        """Return the health of its workers: `JobQueueServer.health`."""
        return self.server.health()

    def on(self, event_type: type[E], callback: Callable[[E], object | Awaitable[object]]) -> Callable[[], None]:
        """Call `callback` with each event of this type or a subtype. Returns a function that ends the calls."""

        def from_client(event: E) -> object | Awaitable[object]:
            return None if isinstance(event, RunEvent) and self._emitted_by_server(event) else callback(event)

        cancels = [self._server.on(event_type, callback), self._client.on(event_type, from_client)]

        def cancel() -> None:
            for one in cancels:
                one()

        return cancel

    def _emitted_by_server(self, event: RunEvent) -> bool:
        if event.worker is None or event.worker not in self._own_workers:
            return False
        # A job that was aborted or disabled between two runs still names the worker of the last one, which does not
        # know of it. It has no error then, while a job that was stopped while it ran has one.
        return not isinstance(event, (JobAborted, JobDisabled)) or event.error is not None

    def wants(self, event_type: type[Event]) -> bool:
        """Return whether any callback is registered for this type."""
        return self._client.wants(event_type) or self._server.wants(event_type)
