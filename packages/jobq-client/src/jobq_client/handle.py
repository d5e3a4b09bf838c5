"""`JobHandle`: what `add` gives back, to ask for the job's result, progress and end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

from jobq_core.job import JobDefinition
from jobq_core.records import Progress

if TYPE_CHECKING:
    from jobq_client.client import JobQueueClient

R_co = TypeVar("R_co", covariant=True)


class JobHandle(Generic[R_co]):
    """One submitted job; `R` is the type of its result. Equal to a handle of the same id, and usable as a key.

    id: the job's id, a UUIDv7. Keep it as text to ask for the job elsewhere: `client.wait_for("0192…")`.
    created: whether this `add` made the job; False if its unique key stood for one that was there already.
    kind, queue: of the job as it was submitted here.
    """

    __slots__ = ("_client", "_definition", "created", "id", "queue")

    def __init__(
        self, client: JobQueueClient, definition: JobDefinition, *, id: UUID, queue: str, created: bool
    ) -> None:
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
        """What is declared of the kind of job."""
        return self._definition

    async def result(self, *, timeout: float | None = None) -> R_co:
        """Wait for the job's end and return its result, as `JobQueueClient.wait_for` does."""
        return await self._client.wait_for(self, timeout=timeout)

    async def progress(self) -> Progress:
        """Return how far the job is; raises JobNotFoundError if it is gone."""
        return await self._client.progress_of(self)

    def follow(self) -> AsyncGenerator[Progress, None]:
        """Iterate over the job's progress until its end, as `JobQueueClient.follow` does."""
        return self._client.follow(self)

    async def abort(self) -> bool:
        """Abort the job wherever it is, as `JobQueueClient.abort` does."""
        return await self._client.abort(self)

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, JobHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} ({self.kind}, queue {self.queue!r})>"
