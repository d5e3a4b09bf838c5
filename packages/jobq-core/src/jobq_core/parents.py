"""Which job added another one: the id of the parent, in the `meta` of the child beside its headers.

The jobs that clients add have none, and cost nothing. No index is needed to find the children of a job: their ids were
made while it ran, or soon after it failed, so the times of the parent say where to look.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from jobq_core.states import JobState
from jobq_core.timestamps import to_datetime

if TYPE_CHECKING:
    from jobq_core.records import JobRecord

PARENT: Final = "jobq:parent"
"""The key of `meta` for the id, in a list. Headers cannot have it: their values are texts."""
SKEW_SECONDS: Final = 1.0
"""How far the time in an id may differ from the storage's clock: a worker measures that clock now and then."""
FOLLOWED_SECONDS: Final = 60.0
"""Time after a failure in which the maintenance adds the job that follows it."""


def with_parent(meta: bytes | None, parent: UUID) -> bytes:
    """Return the `meta` of a job with the id of the job that added it, in place of another one. What is not a JSON
    object, and was stored by another program, is dropped."""
    try:
        headers = {} if meta is None else msgspec.json.decode(meta, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError):
        headers = {}
    return msgspec.json.encode({**headers, PARENT: [parent]})


def mark_of(parent: UUID) -> bytes:
    """Return what is in the `meta` of the children of a job, and of no other job."""
    return msgspec.json.encode({PARENT: [parent]})[1:-1]


def parent_of(meta: bytes | None) -> UUID | None:
    """Return the id that `with_parent` stored; None for a `meta` without one, or of another form."""
    if meta is None or PARENT.encode() not in meta:
        return None
    try:
        (parent,) = msgspec.json.decode(meta, type=dict[str, Any])[PARENT]
        return UUID(parent)
    except (msgspec.DecodeError, UnicodeError, KeyError, TypeError, ValueError, AttributeError):
        return None


def may_have_children(parent: JobRecord) -> bool:
    """Whether a job can have added others: jobs exist once their parent has completed, or has failed for good."""
    return parent.finished or bool(parent.attempts)


def times_of_children(parent: JobRecord) -> tuple[datetime, datetime | None]:
    """Return from when on, and until when, the ids of the children of a job were made; None while more may follow."""
    starts = [attempt.started_at for attempt in parent.attempts]
    if parent.started_at is not None:
        starts.append(parent.started_at)
    first = min(starts, default=parent.created_at) - timedelta(seconds=SKEW_SECONDS)
    if parent.finished_at is None:
        return first, None
    after = FOLLOWED_SECONDS if parent.state is JobState.FAILED else SKEW_SECONDS
    return first, parent.finished_at + timedelta(seconds=after)


def time_of_id(id: UUID) -> datetime | None:
    """Return when an id was made; None for one that is not of version 7."""
    return to_datetime((id.int >> 80) * 1000) if id.version == 7 else None
