"""Ids of jobs and workers: UUIDs of version 7 (RFC 9562), which sort by the time they were made."""

from __future__ import annotations

import time
import uuid
from typing import Final

import uuid_utils.compat

from jobq_core.errors import InvalidJobError
from jobq_core.reprs import short_repr

SET: Final = 500
"""Milliseconds from which on another time than now's tells of a clock that was set. Less than that is a pause of this
process between two looks at the clock, or the clock being slowed down."""


def new_id(offset: float = 0.0, now: float | None = None) -> uuid.UUID:
    """Make a UUIDv7; `offset` is the storage's clock less this machine's, in seconds.

    now: this machine's time for which that holds, in seconds since 1970 (default: the present one).
    """
    return new_ids(1, offset, now)[0]


def new_ids(count: int, offset: float = 0.0, now: float | None = None) -> list[uuid.UUID]:
    """Make many, in order."""
    wanted = time.time_ns() // 1_000_000 if now is None else int(now * 1000)
    made = [uuid_utils.compat.uuid7() for _ in range(count)]
    # The first 48 bits of a UUIDv7 are milliseconds since 1970. Those of one process never go back, whatever its clock
    # does: once it is set back by two hours, they stay two hours ahead unless we say so. And it may have been set since
    # `now`, for which the offset holds.
    ahead = (made[0].int >> 80) - wanted if made else 0
    shift = round(offset * 1000) - (ahead if abs(ahead) > SET else 0) << 80
    return [uuid.UUID(int=each.int + shift) for each in made] if shift else made


def parse_id(value: uuid.UUID | str) -> uuid.UUID:
    """Return the id that a string spells; raises InvalidJobError if it spells none."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidJobError(f"{short_repr(value)} is not a job id (a UUID such as {new_id()})") from None
