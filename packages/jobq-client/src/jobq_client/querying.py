"""Reading jobs: one by one, by a filter, their counts, and the results of earlier ones."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from msgspec import Struct

from jobq_client.base import ClientBase
from jobq_client.base_handle import JobKey, id_of
from jobq_client.results import result_of
from jobq_core.checks import check_list, is_one_of
from jobq_core.errors import ConfigurationError
from jobq_core.job import Job, JobFunction, check_name, definition_of
from jobq_core.records import JobRecord, JobSummary
from jobq_core.reprs import short_repr
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, Page

R = TypeVar("R")

MAX_PAGE: Final = 1000

Kind = str | type[Job[Any]] | JobFunction[Any, Any, Any]
"""A kind of job: its name, or the function or class that `@job` declared."""


class Output(Struct, Generic[R], frozen=True):
    """A result that `find_output` found, which may be None, and the id of its job."""

    job_id: UUID
    value: R


class Querying(ClientBase):
    """The part of `JobQueueClient` that reads."""

    async def get(self, job: JobKey, *, connection: Any = None) -> JobRecord | None:
        """Return the full record of a job, failed attempts included; None if the job does not exist.

        connection: an open connection of yours, in whose transaction the job is read (see `add`).
        """
        (record,) = await self._running().storage.get([id_of(job)], connection=connection)
        return record

    async def find(
        self,
        *,
        state: JobState | Iterable[JobState] = (),
        queue: str | None = None,
        kind: Kind | Iterable[Kind] = (),
        tag: str | Iterable[str] = (),
        run_id: str | None = None,
        after: JobKey | None = None,
        limit: int = 100,
    ) -> Page:
        """Return a page of the jobs that match all given conditions, newest first.

        state, kind: one, or several of which any matches. tag: one, or several that the job must all have.
        queue: default is every queue. after: the cursor of the previous page. limit: 1 to 1000 jobs.
        """
        _check_limit(limit, "limit")
        wanted = JobFilter(
            queue=None if queue is None else check_name(queue, "queue"),
            states=_states(state),
            kinds=_kinds(kind),
            tags=_tags(tag),
            run_id=None if run_id is None else check_name(run_id, "run_id"),
        )
        return await self._running().storage.find(wanted, after=None if after is None else id_of(after), limit=limit)

    async def find_all(
        self,
        *,
        state: JobState | Iterable[JobState] = (),
        queue: str | None = None,
        kind: Kind | Iterable[Kind] = (),
        tag: str | Iterable[str] = (),
        run_id: str | None = None,
        page_size: int = 100,
    ) -> AsyncGenerator[JobSummary, None]:
        """Iterate over all jobs that match, newest first, as `find` does. page_size: jobs per query (1 to 1000)."""
        states, kinds, tags = _states(state), _kinds(kind), _tags(tag)
        after: UUID | None = None
        while True:
            page = await self.find(
                state=states, queue=queue, kind=kinds, tag=tags, run_id=run_id, after=after, limit=page_size
            )
            for record in page.jobs:
                yield record
            if page.cursor is None:
                return
            after = page.cursor

    async def peek(self, n: int = 1, *, queue: str | None = None) -> list[JobSummary]:
        """Return the next jobs of a queue (default: the client's own): PENDING, by priority, then oldest first.

        n: maximum number of jobs, 1 to 1000. A job that was retried, enabled or handed back is claimed later than its
        age says. Reads all PENDING jobs of the queue, 1000 per query.
        """
        _check_limit(n, "n")
        pending = self.find_all(state=JobState.PENDING, queue=self._queue_or_own(queue), page_size=MAX_PAGE)
        # Newest first, so that a heap of n jobs is all that is kept.
        first: list[tuple[int, int, JobSummary]] = []
        async for record in pending:
            entry = (record.priority, -record.id.int, record)
            if len(first) < n:
                heapq.heappush(first, entry)
            else:
                heapq.heappushpop(first, entry)
        return [record for _, _, record in sorted(first, reverse=True)]

    async def size(self, queue: str | None = None, *, state: JobState = JobState.PENDING) -> int:
        """Return the number of jobs of a queue (default: the client's own) in one state (default: PENDING)."""
        (one,) = _states((state,))
        return (await self.counts(queue))[one]

    async def counts(self, queue: str | None = None) -> dict[JobState, int]:
        """Return the number of jobs of a queue (default: the client's own) in each of the eight states."""
        name = self._queue_or_own(queue)
        return dict((await self._running().storage.counts(name))[name])

    async def output_for(self, job: Job[R], *, queue: str | None = None) -> R | None:
        """Return the result of the newest completed job of a queue with the same kind and arguments, or None.

        queue: default is the queue that `add(job)` would use. Use `find_output` if a result may be None. Raises
        ConfigurationError if the kind is not declared with `fingerprint=True`.
        """
        output = await self.find_output(job, queue=queue)
        return None if output is None else output.value

    async def find_output(self, job: Job[R], *, queue: str | None = None) -> Output[R] | None:
        """Return the result as `output_for` does, with the id of its job; None if there is no such job."""
        definition = definition_of(job)
        fingerprint = definition.fingerprint_of(definition.encode_arguments(job))
        if fingerprint is None:
            raise ConfigurationError(f"{definition.kind} keeps no fingerprints: declare it with @job(fingerprint=True)")
        name = self._queue_or_own(queue if queue is not None else definition.queue)
        status = await self._running().storage.output_for(name, definition.kind, fingerprint)
        return None if status is None else Output(status.id, result_of(status, definition))


def _check_limit(limit: int, what: str) -> None:
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE:
        raise ConfigurationError(f"{what} must be a whole number from 1 to {MAX_PAGE}, not {short_repr(limit)}")


def _states(state: JobState | Iterable[JobState]) -> frozenset[JobState]:
    # A JobState is a str, which would be iterated letter by letter.
    states = [state] if isinstance(state, str) else check_list(state, "state", "state=[JobState.FAILED]")
    for one in states:
        if not is_one_of(one, JobState):
            raise ConfigurationError(f"unknown state {short_repr(one)}; expected one of {', '.join(JobState)}")
    return frozenset(map(JobState, states))


def _kinds(kind: Kind | Iterable[Kind]) -> tuple[str, ...]:
    kinds = (kind,) if isinstance(kind, (str, type, JobFunction)) else check_list(kind, "kind", "kind=[send, resize]")
    return tuple(check_name(one, "kind") if isinstance(one, str) else definition_of(one).kind for one in kinds)


def _tags(tag: str | Iterable[str]) -> tuple[str, ...]:
    tags = (tag,) if isinstance(tag, str) else check_list(tag, "tag", "tag=['monthly', 'mail']")
    return tuple(check_name(one, "a tag") for one in tags)
