"""Adding jobs: one by one, many at once, or in a transaction of the caller's."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar, Unpack
from uuid import UUID

from jobq_client.base import ClientBase
from jobq_client.bulk import make_each, make_jobs, persist, send_all
from jobq_client.handle import JobHandle
from jobq_client.middleware import AddCall, AddMiddleware, check_middleware
from jobq_core.adding import AddOptions, new_job
from jobq_core.checks import check_list
from jobq_core.events import JobAdded
from jobq_core.ids import new_id
from jobq_core.job import Job, JobDefinition
from jobq_core.storage import Added, NewJob

R = TypeVar("R")
M = TypeVar("M", bound=AddMiddleware)


class Adding(ClientBase):
    """The part of `JobQueueClient` that adds jobs."""

    async def add(self, job: Job[R], *, connection: Any = None, **options: Unpack[AddOptions]) -> JobHandle[R]:
        """Add a job, which is stored durably once this returns. The options are those of `AddOptions`.

        Concurrent calls share one commit. With `connection`, the job is added in that connection's open transaction:
        it exists once that commits, and must not be waited for before.

        connection: an open connection to the storage's database. An async client takes one of psycopg, asyncpg or
        aiosqlite, or SQLAlchemy's AsyncSession or AsyncConnection over one of them. A sync client takes one of psycopg,
        psycopg2 or sqlite3, SQLAlchemy's Session or Connection over one of them, or Django's `connection`.

        Raises InvalidJobError for arguments that have no JSON form and ConfigurationError for an invalid option;
        nothing is stored then. Raises StorageUnavailableError after `patience` seconds of an outage; its message says
        whether the job was not added, or may have been. Raises UniqueKeyBusyError if an open transaction of another
        session holds the unique key for a second; the job was not added. With `connection` nothing is retried, because
        the transaction is the caller's: a serialization failure or a deadlock raises the error of the connection's own
        package.
        """
        if not self._middleware:
            return await self._add(job, connection, options)
        with AddCall(self._middleware, job, options) as call:
            call.handle = handle = await self._add(job, connection, options)
        return handle

    async def _add(self, job: Job[R], connection: Any, options: AddOptions) -> JobHandle[R]:
        session = self._running()
        new = new_job(new_id(*session.read_clock()), job, self._queue, options)
        if connection is not None:
            return self._handle_of(job, new, (await session.storage.add([new], connection=connection))[0])
        added = await session.add(new)
        self._emit_added([new], [added])
        return self._handle_of(job, new, added)

    async def add_many(
        self, jobs: Iterable[Job[R]], *, connection: Any = None, **options: Unpack[AddOptions]
    ) -> list[JobHandle[R]]:
        """Add jobs in one round trip, all or none, with the same options. They become PENDING in the given order.

        More than 10,000 jobs, or more than 32 MiB of arguments, take several round trips. An error keeps the jobs of
        earlier round trips, and a note on it says how many. Raises as `add` does; one refused job refuses all.
        """
        given = check_list(jobs, "jobs", "add_many([job, another])")
        if not self._middleware:
            session = self._running()
            made = await make_jobs(given, self._queue, options, session.read_clock())
            return await self._add_made(given, made, connection)
        with ExitStack() as stack:
            each: list[AddOptions] = [{**options} for _ in given]
            calls = [
                stack.enter_context(AddCall(self._middleware, job, own)) for job, own in zip(given, each, strict=True)
            ]
            session = self._running()
            made = await make_each(given, self._queue, each, session.read_clock())
            handles = await self._add_made(given, made, connection)
            for call, handle in zip(calls, handles, strict=True):
                call.handle = handle
        return handles

    def middleware(self, function: M) -> M:
        """Decorate a generator function that runs around each `add`, in the order of the decorators.

        It is called with the job and its options, a dict that it may change before its `yield`, such as
        `options["headers"]`. The `yield` returns the handle, or raises what `add` raises; an exception of the
        middleware's own before it means that nothing was added. `add_many` calls it for each job. Raises
        ConfigurationError for anything else.
        """
        check_middleware(function)
        self._middleware.append(function)
        return function

    async def _add_made(self, given: Sequence[Job[R]], new: list[NewJob], connection: Any) -> list[JobHandle[R]]:
        session = self._running()
        if connection is not None:
            added = await send_all(new, partial(session.storage.add, connection=connection))
        else:
            send = partial(persist, session.storage.add, patience=self._patience, closing=session.closing)
            added = await send_all(new, send)
            self._emit_added(new, added)
        return [self._handle_of(*each) for each in zip(given, new, added, strict=True)]

    def _handle_of(self, job: Job[R], new: NewJob, added: Added) -> JobHandle[R]:
        # Not added.created: a job that is sent again after a lost answer is found there, and yet is new.
        return self._make_handle(job.definition, id=added.id, queue=new.queue, created=added.id == new.id)

    @abc.abstractmethod
    def _make_handle(self, definition: JobDefinition, *, id: UUID, queue: str, created: bool) -> JobHandle[Any]: ...

    def _emit_added(self, jobs: Sequence[NewJob], added: Sequence[Added]) -> None:
        if self.wants(JobAdded):
            for new, one in zip(jobs, added, strict=True):
                self.emit(JobAdded(job_id=one.id, kind=new.kind, queue=new.queue, created=one.id == new.id))
