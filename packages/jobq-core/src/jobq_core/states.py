"""The eight states of a job and the moves between them, as pure functions.

SCHEDULED ──due──┐                    ┌── retry: SCHEDULED, with backoff
BLOCKED ──freed──┼─► PENDING ─claim─► PROCESSING ─► COMPLETED
DISABLED ─enable─┘       ▲               │  ├─────► FAILED
                         └──release──────┘  └─────► ABORTED
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class JobState(StrEnum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"
    BLOCKED = "blocked"
    DISABLED = "disabled"
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


S = JobState

WAITING: Final = frozenset({S.SCHEDULED, S.BLOCKED, S.DISABLED})
"""The states of jobs that are kept back: by a time; by a gate or a missing worker; by an operator."""

FINISHED: Final = frozenset({S.COMPLETED, S.FAILED, S.ABORTED})
"""The final states; the FAILED jobs are the dead-letter queue."""

TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = MappingProxyType(
    {
        S.SCHEDULED: frozenset({S.PENDING, S.BLOCKED, S.DISABLED, S.FAILED, S.ABORTED}),
        S.BLOCKED: frozenset({S.PENDING, S.DISABLED, S.FAILED, S.ABORTED}),
        S.DISABLED: frozenset({S.PENDING, S.SCHEDULED, S.BLOCKED, S.ABORTED}),
        S.PENDING: frozenset({S.PROCESSING, S.DISABLED, S.FAILED, S.ABORTED}),
        S.PROCESSING: frozenset({S.COMPLETED, S.FAILED, S.ABORTED, S.SCHEDULED, S.BLOCKED, S.DISABLED, S.PENDING}),
        S.COMPLETED: frozenset(),
        S.FAILED: frozenset({S.PENDING, S.BLOCKED}),
        S.ABORTED: frozenset({S.PENDING, S.BLOCKED}),
    }
)
"""The states that a job may go to, by its present state."""


def can_move(before: JobState, after: JobState) -> bool:
    """Return whether a job in state `before` may become `after`."""
    return after in TRANSITIONS[before]


def is_finished(state: JobState) -> bool:
    """Return whether a job in this state has ended, and runs again only if it is retried."""
    return state in FINISHED


class StopRequest(StrEnum):
    """What a PROCESSING job was asked to do. It is stored beside the state and is not a state."""

    ABORT = "abort"
    DISABLE = "disable"


class Ending(StrEnum):
    """How a worker settles one run of a job."""

    COMPLETE = "complete"
    FAIL = "fail"
    RETRY = "retry"
    ABORT = "abort"
    DISABLE = "disable"
    RELEASE = "release"
    """Hand the job back as if it had not been claimed. The attempt does not count."""
    SNOOZE = "snooze"
    """Run the job again later. The attempt does not count."""
    SUSPEND = "suspend"
    """Keep the job back, BLOCKED without a time, until a worker can take it. The attempt does not count."""


def state_after(ending: Ending, *, request: StopRequest | None, waits: bool) -> JobState:
    """Return the state that a settlement leads to.

    request: what the job was asked to do during the run. A completion or an abort that happened stands; a job that was
        asked to stop is never put back to run.
    waits: whether a RETRY, SNOOZE or RELEASE names a time in the future.
    """
    if ending is Ending.COMPLETE:
        return S.COMPLETED
    if ending is Ending.ABORT:
        return S.ABORTED
    if ending is Ending.DISABLE or request is StopRequest.DISABLE:
        return S.DISABLED
    if ending is Ending.FAIL:
        return S.FAILED
    if request is StopRequest.ABORT:
        return S.ABORTED
    if ending is Ending.SUSPEND:
        return S.BLOCKED
    if ending is Ending.RETRY or ending is Ending.SNOOZE:
        return S.SCHEDULED if waits else S.PENDING
    return S.BLOCKED if waits else S.PENDING
