"""The facet of readers: looking at jobs and workers without changing them."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import attrs
from msgspec import Struct

from jobq_core.records import ErrorRecord, JobRecord, JobSummary, Progress, WorkerRecord
from jobq_core.secret import show_without
from jobq_core.states import JobState
from jobq_core.storage.depths import Depth, DepthPoint
from jobq_core.storage.queue_options import QueueRecord
from jobq_core.storage.statistics import StatisticsRecord


class JobStatus(Struct, frozen=True, kw_only=True):
    """The part of a job that a waiter needs, small enough to read thousands at once. Result and error as in
    JobRecord."""

    id: UUID
    kind: str
    queue: str
    state: JobState
    attempt: int
    progress: Progress
    worker: UUID | None = None
    result_json: bytes | None = None
    error: ErrorRecord | None = None

    def __repr__(self) -> str:
        return show_without(self, "result_json")


# Functions with types of their own: mypy loses the types of `frozenset` and `tuple` as converters.
def _state_set(states: Iterable[JobState]) -> frozenset[JobState]:
    return frozenset(states)


def _words(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(words)


@attrs.frozen(kw_only=True)
class JobFilter:
    """Which jobs to find. A job matches if all given conditions hold.

    states, kinds: any of them. tags: all of them.
    since, until: added at this moment or later, and before this one.
    error_type: the whole name of the type of its error, as JobSummary shows it. error: text that this error's message
        contains, in upper or lower case.
    argument: the name and the value, of any JSON type, of an argument. Numbers are equal by value, objects whatever the
        order of their keys.
    An argument that is stored as a Secret matches no value: the answer would confirm a guess.
    worker: the id of the worker that ran it last, or runs it.
    parent: the id of the job whose run added it, or whose end it follows. Looked for are ids that were made while that
        job ran, or in the minute after it failed; later ones by an `until`, which then counts instead.
    """

    queue: str | None = None
    states: frozenset[JobState] = attrs.field(default=frozenset(), converter=_state_set)
    kinds: tuple[str, ...] = attrs.field(default=(), converter=_words)
    tags: tuple[str, ...] = attrs.field(default=(), converter=_words)
    run_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    error_type: str | None = None
    error: str | None = None
    argument: tuple[str, Any] | None = None
    worker: UUID | None = None
    parent: UUID | None = None

    @property
    def searches(self) -> bool:
        """Whether jobs have to be read to know if they match: no index has these conditions."""
        searched = (self.error_type, self.error, self.argument, self.worker, self.parent)
        return any(part is not None for part in searched)


SEARCHED: Final = 5_000
"""The number of jobs that one search reads at most."""
COUNT_LIMIT: Final = 50_000
"""Up to this many jobs `count` counts by default."""


class Page(Struct, frozen=True):
    """Jobs, newest first, and the `after` of the next page (None: this is the last page).

    A filter that `searches` looks at SEARCHED jobs per call: its page may be short, or empty, and yet have a cursor. So
    may that of any filter, if a storage has to read many jobs to find those that match.
    """

    jobs: list[JobSummary]
    cursor: UUID | None


class ReaderStorage(abc.ABC):
    """What a reader does with a storage: it looks at jobs and workers, and changes nothing."""

    @abc.abstractmethod
    async def get(self, ids: Sequence[UUID], *, connection: Any = None) -> list[JobRecord | None]:
        """Return the full record of each job; None for a job that does not exist.

        connection: an open connection of the caller, in whose transaction the jobs are read.
        """

    @abc.abstractmethod
    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        """Return the jobs that match, newest id first: those after (older than) `after`, at most `limit`, without
        their payloads."""

    @abc.abstractmethod
    async def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        """Return the number of jobs by queue and state. A named queue is always in the answer, with all eight
        states. Finished jobs are counted as they end, and not by reading them."""

    @abc.abstractmethod
    async def count(self, filter: JobFilter, *, limit: int = COUNT_LIMIT) -> int | None:
        """Return the number of jobs that match; None if they are more than `limit`, or if a filter that `searches`
        would have to read more than SEARCHED jobs. A storage may answer None too where more jobs would have to be read
        than it can in a tenth of a second: of a kind, for which unfinished jobs may have no index, of a tag or a run.
        """

    @abc.abstractmethod
    async def depths(self, queue: str | None = None) -> list[Depth]:
        """Return the number of jobs by queue and state, without those that are 0, at a cost that does not grow with the
        jobs: more than COUNTED jobs of a state are not counted now, but are as of the last `sample_depths`.

        Without any sample yet, they are counted. Finished jobs are counted as they end, as in `counts`.
        """

    @abc.abstractmethod
    async def depth_history(
        self,
        queue: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: int = 60,
        together: bool = False,
    ) -> list[DepthPoint]:
        """Return the depths of the past, by step, queue and state: the last sample of each step of 60, 600 or 3,600
        seconds that starts at `since` (default: an hour ago) or later and before `until` (default: now).

        together: whether the queues are summed up, to points whose queue is '' (default: a point for each).

        Raises ConfigurationError for another step. Kept as statistics are. A queue without jobs has no points.
        """

    @abc.abstractmethod
    async def jobs_ahead(self, id: UUID, *, limit: int = 100_000) -> int | None:
        """Return how many PENDING jobs of its queue are claimed before this PENDING job, at most `limit`; None for a
        job that is not PENDING."""

    @abc.abstractmethod
    async def overdue(self, seconds: float, *, limit: int = 1000) -> int:
        """Return how many SCHEDULED jobs have been due for longer than this, at most `limit`, at a cost that does not
        grow with those that are not: maintenance makes a job PENDING soon after it is due."""

    @abc.abstractmethod
    async def queues(self) -> list[QueueRecord]:
        """Return the queues whose options were set, by name."""

    @abc.abstractmethod
    async def statistics(
        self,
        queue: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: int = 60,
        together: bool = False,
    ) -> list[StatisticsRecord]:
        """Return the statistics of the steps that start at `since` (default: an hour ago) or later and before `until`
        (default: now), by step, queue, kind and state; of one queue, or of all.

        together: whether queues and kinds are summed up, to records whose queue and kind are '' (default: a record for
        each).
        step: 60, 600 or 3,600 seconds; raises ConfigurationError for another. `prune` sums minutes up to steps of ten
        minutes after a day, those up to hours after 3 days, and removes hours after 30 days.
        """

    @abc.abstractmethod
    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        """Return the status of each job; None for a job that does not exist. One query, whatever the number of ids."""

    @abc.abstractmethod
    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        """Return the newest (by id) COMPLETED job of this queue and kind that was added with this fingerprint."""

    @abc.abstractmethod
    async def workers(self) -> list[WorkerRecord]:
        """Return the registered workers, oldest first. An expired worker is included until its jobs are rescued."""
