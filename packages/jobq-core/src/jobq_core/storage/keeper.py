"""The facet of the keeper: the maintenance, which one worker at a time does for all."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import attrs
from msgspec import Struct

from jobq_core.checks import Seconds, is_number, to_seconds
from jobq_core.errors import CENTURY, ConfigurationError
from jobq_core.reprs import short_repr
from jobq_core.states import JobState


# Converters; mypy takes the types of their parameters for those of the class.
def _completed(value: Seconds | None) -> float | None:
    return _kept(value, "completed")


def _failed(value: Seconds | None) -> float | None:
    return _kept(value, "failed")


def _aborted(value: Seconds | None) -> float | None:
    return _kept(value, "aborted")


def _kept(value: Any, name: str) -> float | None:
    seconds = to_seconds(value)
    if seconds is None:
        return None
    if not is_number(seconds) or not 0 <= seconds <= CENTURY:
        raise ConfigurationError(
            f"Retention: {name} must be from 0 seconds to 100 years, or None (forever), not {short_repr(value)}"
        )
    return float(seconds)


@attrs.frozen(kw_only=True)
class Retention:
    """How long the finished jobs of a queue are kept after their end, in seconds or as a timedelta.

    completed: default 1 day; failed: default 14 days; aborted: default 1 day. 0 keeps none, None keeps all forever.

    The attributes hold seconds. Raises ConfigurationError for a value out of 0 to 100 years.
    """

    completed: float | None = attrs.field(default=86_400.0, converter=_completed)
    failed: float | None = attrs.field(default=14 * 86_400.0, converter=_failed)
    aborted: float | None = attrs.field(default=86_400.0, converter=_aborted)


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
        promoted, next_in may be 0."""

    @abc.abstractmethod
    async def rescue(self) -> list[LostWorker]:
        """Remove the workers whose heartbeat expired, and rescue the jobs they held and any PROCESSING job whose worker
        is not registered.

        A rescued job gets an AttemptRecord with a WorkerLostError and becomes: ABORTED or DISABLED if it was asked to;
        FAILED if its attempts are spent; else PENDING, at the end of the line. A job whose run had to be recorded by
        `mark_started` and was not, never ran: it gets its attempt back and no AttemptRecord or error, as if it had been
        handed back. The answer has only lost workers that are met for the first time or that held jobs. Of two
        simultaneous calls, each worker and each job is in one answer.
        """

    @abc.abstractmethod
    async def set_retention(self, retention: Mapping[str, Retention]) -> None:
        """Store how long each queue keeps its finished jobs. The last call counts. A queue that was never named keeps
        them as `Retention()` says."""

    @abc.abstractmethod
    async def prune(self, limit: int = 10_000) -> int:
        """Remove up to `limit` finished jobs, with their history, whose retention is over; return their number. Nothing
        else removes jobs by age: with a retention of 0, a job is removed by the next prune."""
