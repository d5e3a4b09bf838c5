"""`JobHandle`: one job, to ask for its result, its progress and its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol, TypeVar
from uuid import UUID

from jobq_client.base_handle import BaseJobHandle
from jobq_core.checks import Seconds
from jobq_core.job import JobDefinition
from jobq_core.records import Progress

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class HandleClient(Protocol):
    """The methods of `JobQueueClient` that a handle calls."""

    async def wait_for(self, job: BaseJobHandle[R], *, timeout: Seconds | None = None) -> R:
        """Return the job's result."""
        ...

    async def progress_of(self, job: BaseJobHandle[Any]) -> Progress:
        """Return the job's progress."""
        ...

    def follow(self, job: BaseJobHandle[Any]) -> AsyncGenerator[Progress, None]:
        """Iterate over the job's progress."""
        ...

    async def abort(self, job: BaseJobHandle[Any]) -> bool:
        """Abort the job."""
        ...


class JobHandle(BaseJobHandle[R_co]):
    """One job that `JobQueueClient` added; `R` is the type of its result. See `BaseJobHandle`."""

    __slots__ = ("_client",)

    def __init__(self, client: HandleClient, definition: JobDefinition, *, id: UUID, queue: str, created: bool) -> None:
        super().__init__(definition, id=id, queue=queue, created=created)
        self._client = client

    async def result(self, *, timeout: Seconds | None = None) -> R_co:
        """Wait until the job has ended and return its result, as `JobQueueClient.wait_for` does."""
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
