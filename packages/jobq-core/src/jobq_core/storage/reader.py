"""The facet of readers: looking at jobs and workers without changing them."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs
from msgspec import Struct

from jobq_core.records import ErrorRecord, JobRecord, JobSummary, Progress, WorkerRecord
from jobq_core.secret import show_without
from jobq_core.states import JobState
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
    """Which jobs to find. A job matches if all given conditions hold. states, kinds: any of them; tags: all of them."""

    queue: str | None = None
    states: frozenset[JobState] = attrs.field(default=frozenset(), converter=_state_set)
    kinds: tuple[str, ...] = attrs.field(default=(), converter=_words)
    tags: tuple[str, ...] = attrs.field(default=(), converter=_words)
    run_id: str | None = None


class Page(Struct, frozen=True):
    """Jobs, newest first, and the `after` of the next page (None: this is the last page)."""

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
    async def queues(self) -> list[QueueRecord]:
        """Return the queues whose options were set, by name."""

    @abc.abstractmethod
    async def statistics(
        self, queue: str | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[StatisticsRecord]:
        """Return the statistics of the minutes that start at `since` (default: an hour ago) or later and before `until`
        (default: now), by minute, queue, kind and state; of one queue, or of all. Minutes are kept for 30 days."""

    @abc.abstractmethod
    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        """Return the status of each job; None for a job that does not exist. One query, whatever the number of ids."""

    @abc.abstractmethod
    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        """Return the newest (by id) COMPLETED job of this queue and kind that was added with this fingerprint."""

    @abc.abstractmethod
    async def workers(self) -> list[WorkerRecord]:
        """Return the registered workers, oldest first. An expired worker is included until its jobs are rescued."""
