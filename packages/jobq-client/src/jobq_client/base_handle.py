"""`BaseJobHandle`: what the handles of both clients share, so that each client takes the other's."""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from uuid import UUID

from jobq_core.ids import parse_id
from jobq_core.job import JobDefinition

R_co = TypeVar("R_co", covariant=True)


class BaseJobHandle(Generic[R_co]):
    """One added job; `R` is the type of its result. Handles of the same id are equal; handles are hashable.

    id: the job's id, a UUIDv7. Its text identifies the job in other processes: `client.handle("0192…", send_receipt)`.
    created: whether this `add` made the job; False if its unique key belonged to an unfinished job.
    kind, queue: of the job as it was added here.
    """

    __slots__ = ("_definition", "created", "id", "queue")

    def __init__(self, definition: JobDefinition, *, id: UUID, queue: str, created: bool) -> None:
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

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, BaseJobHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} ({self.kind}, queue {self.queue!r})>"


JobKey = BaseJobHandle[Any] | UUID | str
"""A job: its handle, its id, or its id as text."""


def id_of(job: JobKey) -> UUID:
    """Return the id of a job. Raises InvalidJobError for anything that is not a JobKey."""
    return job.id if isinstance(job, BaseJobHandle) else parse_id(job)
