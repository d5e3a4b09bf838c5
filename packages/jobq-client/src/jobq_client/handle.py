"""`JobHandle`: one job, to ask for its result, its progress and its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from jobq_core.checks import Seconds
from jobq_core.ids import parse_id
from jobq_core.job import JobDefinition
from jobq_core.records import Progress

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class HandleClient(Protocol):
    """The methods of `JobQueueClient` that a handle calls."""

    async def wait_for(self, job: JobHandle[R], *, timeout: Seconds | None = None) -> R:
        """Return the job's result."""
        ...

    async def progress_of(self, job: JobHandle[Any]) -> Progress:
        """Return the job's progress."""
        ...

    def follow(self, job: JobHandle[Any]) -> AsyncGenerator[Progress, None]:
        """Iterate over the job's progress."""
        ...

    async def abort(self, job: JobHandle[Any]) -> bool:
        """Abort the job."""
        ...


class JobHandle(Generic[R_co]):
    """One added job; `R` is the type of its result. Handles of the same id are equal; handles are hashable.

    id: the job's id, a UUIDv7. Its text identifies the job in other processes: `client.handle("0192…", send_receipt)`.
    created: whether this `add` made the job; False if its unique key belonged to an unfinished job.
    kind, queue: of the job as it was added here.
    """

    __slots__ = ("_client", "_definition", "created", "id", "queue")

    def __init__(self, client: HandleClient, definition: JobDefinition, *, id: UUID, queue: str, created: bool) -> None:
        self._client = client
        self._definition = definition
        self.id = id
        self.queue = queue
        self.created = created

    @property
    def kind(self) -> str:
        """The job's kind."""
        return self._definition.kind

    @property
    def definition(self) -> JobDefinition:
        """The declaration of the job's kind."""
        return self._definition

    async def result(self, *, timeout: Seconds | None = None) -> R_co:
        """Wait until the job is over and return its result, as `JobQueueClient.wait_for` does."""
        return await self._client.wait_for(self, timeout=timeout)

    async def progress(self) -> Progress:
        """Return the job's progress. Raises JobNotFoundError if the job does not exist."""
        return await self._client.progress_of(self)

    def follow(self) -> AsyncGenerator[Progress, None]:
        """Iterate over the job's progress until its end, as `JobQueueClient.follow` does."""
        return self._client.follow(self)

    async def abort(self) -> bool:
        """Abort the job, as `JobQueueClient.abort` does."""
        return await self._client.abort(self)

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, JobHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} ({self.kind}, queue {self.queue!r})>"


JobKey = JobHandle[Any] | UUID | str
"""A job: its handle, its id, or its id as text."""


def id_of(job: JobKey) -> UUID:
    """Return the id of a job. Raises InvalidJobError for anything that is not a JobKey."""
    return job.id if isinstance(job, JobHandle) else parse_id(job)
