"""The jobs that a run adds: kept while the handler runs, and stored by the exchange that completes its job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from jobq_core.adding import AddOptions, new_job
from jobq_core.errors import InvalidJobError
from jobq_core.ids import new_id
from jobq_core.job import Job
from jobq_core.parents import with_parent
from jobq_core.storage import NewJob

R_co = TypeVar("R_co", covariant=True)

MAX_CHILDREN: Final = 10_000
"""Maximum number of jobs that one run adds."""
MAX_CHILDREN_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of the arguments and headers of the jobs that one run adds."""


class ChildJob(Struct, Generic[R_co], frozen=True, kw_only=True):
    """A job that a handler added. It exists once the handler's job has completed.

    id: the id that the job will have; `client.handle(child.id, kind)` makes a handle of it.
    job: the job itself. queue: the queue that it goes to.
    """

    id: UUID
    job: Job[R_co]
    queue: str

    @property
    def kind(self) -> str:
        """The job's kind."""
        return self.job.definition.kind


class Children:
    """The jobs that one run adds, in order.

    parent: the job that runs. queue: for jobs whose kind declares none. inherited: options that each job gets unless it
        is added with its own. make_id: returns the id of a new job. jobs: what to store. added: the same jobs as their
        handler sees them.
    """

    def __init__(self, parent: UUID, queue: str, inherited: AddOptions, make_id: Callable[[], UUID] = new_id) -> None:
        self._parent = parent
        self._queue = queue
        self._inherited = inherited
        self._make_id = make_id
        self._bytes = 0
        self.jobs: list[NewJob] = []
        self.added: list[ChildJob[Any]] = []

    def add(self, job: Job[R_co], options: AddOptions) -> ChildJob[R_co]:
        """Keep a job; see `JobContext.add`."""
        given = {name: value for name, value in options.items() if value is not None}
        new = new_job(self._make_id(), job, self._queue, cast(AddOptions, {**self._inherited, **given}))
        new = replace(new, meta=with_parent(new.meta, self._parent))
        size = self._bytes + len(new.arguments) + len(new.meta or b"")
        if len(self.jobs) == MAX_CHILDREN or size > MAX_CHILDREN_BYTES:
            raise InvalidJobError(
                f"one run can add {MAX_CHILDREN} jobs with {MAX_CHILDREN_BYTES // 1024**2} MiB of arguments; "
                "let the jobs that it adds add more"
            )
        self._bytes = size
        self.jobs.append(new)
        child = ChildJob(id=new.id, job=job, queue=new.queue)
        self.added.append(child)
        return child
