"""The facet of the keeper: the maintenance, which one worker at a time does for all."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeAlias
from uuid import UUID

from msgspec import Raw, Struct

from jobq_core.records import ErrorRecord
from jobq_core.states import JobState
from jobq_core.storage.producer import NewJob


class Leadership(Struct, frozen=True):
    """Whether this worker leads the maintenance, and in how many seconds the present lease ends unless renewed."""

    leads: bool
    expires_in: float


class Promotion(Struct, frozen=True):
    """How many jobs became PENDING, and in how many seconds the next one is due (None: no job waits for a time)."""

    promoted: int
    next_in: float | None


class RescuedJob(Struct, frozen=True, kw_only=True):
    """A job rescued from a lost worker, and the state it went to. attempt: the attempts that count now."""

    id: UUID
    kind: str
    queue: str
    attempt: int
    state: JobState


class LostWorker(Struct, frozen=True, kw_only=True):
    """A worker that missed its heartbeat, and the jobs rescued from it.

    silent_for: seconds since its last heartbeat.
    name is empty and silent_for 0 where only the jobs were found, because the worker itself was removed before.
    """

    worker: UUID
    name: str
    silent_for: float
    jobs: list[RescuedJob]


class Rescue(Struct, frozen=True):
    """The lost workers that a rescue found, and in how many seconds the next registered worker could expire (None: no
    worker is registered)."""

    workers: list[LostWorker]
    next_in: float | None = None


class Expired(Struct, frozen=True):
    """How many jobs failed by their deadline, and in how many seconds the next known deadline passes (None: no waiting
    or PENDING job has one)."""

    count: int
    next_in: float | None


NULL: Final = Raw(b"null")


class FailedJob(Struct, frozen=True, kw_only=True):
    """What is kept of a job with a `follow_up` that became FAILED, whatever is done to the job later.

    arguments, meta, follow_up: the JSON as it was added; `null` for no meta. error: the job's error.
    """

    id: UUID
    queue: str
    kind: str
    arguments: Raw
    follow_up: Raw
    meta: Raw = NULL
    run_id: str | None = None
    error: ErrorRecord | None = None


class EndedJob(Struct, frozen=True):
    """The end of a followed job: the final state that it came to (None: it was deleted), and when.

    failed: for a job with a `follow_up` that became FAILED.
    """

    id: UUID
    queue: str
    state: JobState | None
    at: datetime
    failed: FailedJob | None = None


Follow: TypeAlias = "Callable[[Sequence[EndedJob]], Sequence[NewJob]]"
"""Returns the jobs that follow these ends. It calls no storage, and may be called in any thread."""


class KeeperStorage(abc.ABC):
    """What the keeper does with a storage: the maintenance. Two workers may do it at once without harm; one does it, to
    save work."""

    @abc.abstractmethod
    async def lead(self, worker: UUID, term: float) -> Leadership:
        """Take or renew the lease on the maintenance for `term` seconds, if it is free, over or this worker's."""

    @abc.abstractmethod
    async def resign(self, worker: UUID) -> None:
        """Give up the lease on the maintenance, if this worker has it."""

    @abc.abstractmethod
    async def promote(self, limit: int = 1000) -> Promotion:
        """Make up to `limit` SCHEDULED and BLOCKED jobs whose `run_at` has come PENDING, in the order of `run_at`, and
        at the same `run_at` in the order of adding if they wait since then. DISABLED jobs stay. If `limit` jobs were
        promoted, next_in may be 0. A gated job becomes BLOCKED with the reason GATED instead, and counts as
        promoted. If jobs may wait unseen (behind an open transaction), next_in is at most 0.5."""

    @abc.abstractmethod
    async def expire(self, limit: int = 1000) -> Expired:
        """Make up to `limit` SCHEDULED, BLOCKED and PENDING jobs whose deadline has passed FAILED, with a
        JobDeadlineError as their error. Their attempts stay as they are, and their unique keys become free. If `limit`
        jobs expired, next_in may be 0."""

    @abc.abstractmethod
    async def admit(self, ids: Sequence[UUID]) -> int:
        """Make the jobs of these ids that are BLOCKED as GATED PENDING, in the given order, and return their number.
        Other jobs are not changed. An admitted job stays gated: a later retry waits to be admitted again."""

    @abc.abstractmethod
    async def resolve(self, limit: int = 1000, follow: Follow | None = None) -> list[EndedJob]:
        """Take up to `limit` ends of followed jobs, oldest first: add the jobs that `follow` returns for them, as `add`
        does, forget the ends, and return them.

        A `followed` job leaves an end each time that it becomes COMPLETED, FAILED or ABORTED, or is deleted unfinished.
        A job with a `follow_up` leaves one each time that it becomes FAILED. Of two simultaneous calls, each end is in
        one answer. The jobs are stored with the forgetting of the ends, so that each end is followed once. Where the
        transaction is repeated, `follow` is called again. The jobs that it returns have no unique keys.
        """

    @abc.abstractmethod
    async def rescue(self) -> Rescue:
        """Remove the workers whose heartbeat expired, and rescue the jobs they held and any PROCESSING job whose worker
        is not registered.

        Each worker is a transaction of its own: an error of one leaves the others rescued. Jobs and workers that
        another transaction holds are left to the next call.

        A rescued job gets an AttemptRecord with a WorkerLostError and becomes: ABORTED or DISABLED if it was asked to;
        FAILED if its attempts are spent; else PENDING, at the end of the line. A job whose run had to be recorded by
        `mark_started` and was not, never ran: it gets its attempt back and no AttemptRecord or error, as if it had been
        released. The answer has only lost workers that are met for the first time or that held jobs. Of two
        simultaneous calls, each worker and each job is in one answer.
        """

    @abc.abstractmethod
    async def prune(self, limit: int = 10_000) -> int:
        """Remove up to `limit` finished jobs, with their history, whose retention is over; return their number. Nothing
        else removes jobs by age: with a retention of 0, a job is removed by the next prune. A queue without a retention
        (see `set_queue`) keeps its jobs as `Retention()` says. Statistics are folded here too, and removed after 30
        days."""

    @abc.abstractmethod
    async def sample_depths(self) -> float:
        """Count the unfinished jobs by queue and state, for `depths` and `depth_history`, unless another process has
        done so since it was last due; return the seconds until it is due again.

        It is due after SAMPLE_SECONDS or SAMPLE_SHARE times what the last count took, whichever is longer.
        """
