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
    """The run stopped on a request to disable the job. If the request was withdrawn, the job is released."""
    HOLD = "hold"
    """The handler keeps its own job back: it becomes DISABLED."""
    RELEASE = "release"
    """Hand the job back, to the head of its queue. The attempt does not count."""
    SNOOZE = "snooze"
    """Run the job again later. The attempt does not count."""
    SUSPEND = "suspend"
    """Keep the job back, BLOCKED without a time, until a worker can take it. The attempt does not count."""


def state_after(ending: Ending, *, request: StopRequest | None, waits: bool, gated: bool = False) -> JobState:
    """Return the state that a settlement leads to.

    A completion stands. Any other ending follows the request: a job that was asked to abort becomes ABORTED, one that
    was asked to be disabled DISABLED, and one whose request was withdrawn goes on.

    request: what the job is asked to do now, at the end of the run.
    waits: whether a RETRY, SNOOZE or RELEASE names a time in the future.
    gated: whether the job waits to be admitted each time that it would become PENDING.
    """
    if ending is Ending.COMPLETE:
        return S.COMPLETED
    if request is not None:
        return S.ABORTED if request is StopRequest.ABORT else S.DISABLED
    if ending is Ending.FAIL:
        return S.FAILED
    if ending is Ending.ABORT:
        return S.ABORTED
    if ending is Ending.HOLD:
        return S.DISABLED
    if ending is Ending.SUSPEND or (ending is Ending.RELEASE and waits):
        return S.BLOCKED
    if waits and ending is not Ending.DISABLE:
        return S.SCHEDULED
    return S.BLOCKED if gated else S.PENDING


def gives_attempt_back(ending: Ending, *, request: StopRequest | None) -> bool:
    """Return whether a settlement gives the attempt back: it ended a run that does not count, or one that stopped on a
    request to disable that was withdrawn."""
    return ending in _NOT_COUNTED or (ending is Ending.DISABLE and request is None)


_NOT_COUNTED: Final = frozenset({Ending.RELEASE, Ending.SNOOZE, Ending.SUSPEND})
