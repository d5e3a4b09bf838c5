"""Reading jobs: one by one, by a filter, their counts, and the results of earlier ones."""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, Unpack
from uuid import UUID

from msgspec import Struct

from jobq_client.base import ClientBase
from jobq_client.base_handle import JobKey, id_of
from jobq_client.conditions import Conditions, check_states, to_filter
from jobq_client.results import result_of
from jobq_core.checks import check_count
from jobq_core.errors import ConfigurationError
from jobq_core.job import MAX_ATTEMPTS, Job, check_name, definition_of
from jobq_core.logs import LoggedLine, read_parts, to_lines
from jobq_core.records import JobRecord, JobSummary
from jobq_core.reprs import short_repr
from jobq_core.states import JobState
from jobq_core.storage import COUNT_LIMIT, Depth, Page

if TYPE_CHECKING:
    from jobq_core.why import Reason

R = TypeVar("R")

MAX_PAGE: Final = 1000


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

    async def find(self, *, after: JobKey | None = None, limit: int = 100, **conditions: Unpack[Conditions]) -> Page:
        """Return a page of the jobs that match all given conditions, newest first.

        after: the cursor of the previous page. limit: 1 to 1000 jobs. conditions: those of `Conditions`. The page of a
        search (by error_type, error, argument or worker) may be short, or empty, and yet have a cursor.
        """
        _check_limit(limit, "limit")
        wanted = to_filter("find", conditions)
        return await self._running().storage.find(wanted, after=None if after is None else id_of(after), limit=limit)

    async def find_all(
        self, *, page_size: int = 100, **conditions: Unpack[Conditions]
    ) -> AsyncGenerator[JobSummary, None]:
        """Iterate over all jobs that match, newest first, as `find` does. page_size: jobs per query (1 to 1000)."""
        _check_limit(page_size, "page_size")
        wanted = to_filter("find_all", conditions)
        after: UUID | None = None
        while True:
            page = await self._running().storage.find(wanted, after=after, limit=page_size)
            for record in page.jobs:
                yield record
            if page.cursor is None:
                return
            after = page.cursor

    async def count(self, *, limit: int = COUNT_LIMIT, **conditions: Unpack[Conditions]) -> int | None:
        """Return the number of jobs that match all given conditions.

        None if they are more than `limit` (default: 50,000), or if too many jobs would have to be read: more than 5,000
        for a search (by error_type, error, argument or worker), thousands of a tag or a run, or hundreds of thousands
        of unfinished jobs to find those of a kind. conditions: those of `Conditions`. `depths` has the numbers of a
        queue at less cost.
        """
        check_count(limit, "limit")
        return await self._running().storage.count(to_filter("count", conditions), limit=limit)

    async def depths(self, queue: str | None = None) -> list[Depth]:
        """Return the number of jobs by queue and state, without those that are 0, and since when the oldest waits.

        queue: default is every queue, by name. Costs the same however many jobs there are: of more than 5,000 jobs of
        a state, it is the number of a few seconds ago, `Depth.at`.
        """
        name = None if queue is None else check_name(queue, "queue")
        return sorted(await self._running().storage.depths(name), key=lambda depth: (depth.queue, depth.state))

    async def logs(self, job: JobKey, *, attempt: int | None = None) -> list[LoggedLine]:
        """Return what the handler of a job logged, oldest first; nothing for a job without logs or that does not exist.

        attempt: the number of one attempt (default: all of them). Workers keep logs that were started with `keep_logs`;
        the lines of a run that has ended are there. Raises ConfigurationError for a storage that keeps no logs.
        """
        if attempt is not None:
            check_count(attempt, "attempt", least=1, most=MAX_ATTEMPTS)
        storage = self._running().storage
        return to_lines(await read_parts(storage, id_of(job), attempt=attempt))

    async def why(self, job: JobKey) -> Reason:
        """Return why a job does not run, or how it ended: one sentence for people, and a code for programs.

        The code of a job that does not exist is 'not-found'.
        """
        from jobq_core.why import why

        return await why(self._running().storage, id_of(job))

    async def peek(self, n: int = 1, *, queue: str | None = None) -> list[JobSummary]:
        """Return the next jobs of a queue (default: the client's own): PENDING, by priority, then oldest first.

        n: maximum number of jobs, 1 to 1000. A job that was retried, enabled or released is claimed at another place
        than its age says. Reads all PENDING jobs of the queue, 1000 per query.
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
        (one,) = check_states((state,))
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
