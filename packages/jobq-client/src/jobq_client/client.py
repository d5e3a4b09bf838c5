"""`JobQueueClient`: add jobs, wait for them, follow, find and control them, in a process that runs none."""

from __future__ import annotations

from typing import Any, TypeVar, overload
from uuid import UUID

from jobq_client.adding import Adding
from jobq_client.control import Control
from jobq_client.handle import JobHandle
from jobq_client.querying import Querying
from jobq_client.queues import Queues
from jobq_client.waiting import Waiting
from jobq_core.checks import Seconds
from jobq_core.ids import parse_id
from jobq_core.job import Job, JobDefinition, JobFunction, definition_of
from jobq_core.storage import QueueStorage

R = TypeVar("R")


class JobQueueClient(Adding, Waiting, Querying, Control, Queues):
    """Adds, watches and controls jobs. Use it with `async with`, or `start()` and `stop()`.

    All tasks of one event loop share one client. Used from another event loop, it raises ConfigurationError and sends
    nothing.

    storage: a URL for `jobq_core.open_storage`, which the client opens and closes (default: the environment variable
        JOBQ_STORAGE); or an open QueueStorage, which the caller closes afterwards.
    queue: the queue of jobs whose kind declares none (default: 'default').
    patience: seconds, or a timedelta, for which `add` and `add_many` retry during an outage of the storage, and wait
        for its answer (default: 10). It has a second to answer, however short `patience` is.
    poll: maximum seconds, or a timedelta, between two reads of the jobs that are waited for, in case a notification is
        lost (default: 1).

    Waiting continues through an outage of the storage, until its own timeout. Every other call asks the storage once,
    raises StorageUnavailableError during an outage, and may be repeated. A client that is not running raises
    ClosedError.

    As an event source it emits JobAdded for the jobs it added (outside the caller's transactions), and JobProgressed,
    JobCompleted, JobFailed, JobAborted and JobDisabled for the jobs it waits for, follows or watches.
    """

    def __init__(
        self,
        storage: QueueStorage | str | None = None,
        queue: str = "default",
        *,
        patience: Seconds = 10.0,
        poll: Seconds = 1.0,
    ) -> None:
        super().__init__(storage, queue, patience=patience, poll=poll)

    async def start(self) -> None:
        """Open the storage, if it was given by URL, and read its clock. Does nothing on a running client.

        Raises StorageUnavailableError or SchemaError as `QueueStorage.open` does; the client is not running then.
        """
        await super().start()

    async def stop(self) -> None:
        """Send the jobs that `add` accepted, end all waits with ClosedError, and close a storage given by URL.

        An outage is not waited for. Does nothing on a client that is not running. A stopped client can be started
        again.
        """
        await super().stop()

    @overload
    def handle(self, id: UUID | str, kind: JobFunction[Any, R, Any]) -> JobHandle[R]: ...
    @overload
    def handle(self, id: UUID | str, kind: type[Job[R]]) -> JobHandle[R]: ...
    def handle(self, id: UUID | str, kind: JobFunction[Any, Any, Any] | type[Job[Any]]) -> JobHandle[Any]:
        """Return a handle to a job that was added elsewhere, with the result type of its kind. Makes no query.

        id: the job's id, or its text. kind: the function or class that `@job` declared. The handle's `queue` is the
        queue that `add` would choose, and its `created` is False. Waiting for a job of another kind raises
        ConfigurationError.
        """
        definition = definition_of(kind)
        return self._make_handle(definition, id=parse_id(id), queue=definition.queue or self._queue, created=False)

    def _make_handle(self, definition: JobDefinition, *, id: UUID, queue: str, created: bool) -> JobHandle[Any]:
        return JobHandle(self, definition, id=id, queue=queue, created=created)
