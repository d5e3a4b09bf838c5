"""Ids of jobs and workers: UUIDs of version 7 (RFC 9562), which sort by the time they were made."""

from __future__ import annotations

import time
import uuid
from typing import Final

import uuid_utils.compat

from jobq_core.checks import shown
from jobq_core.errors import InvalidJobError

SET_BACK: Final = 500
"""Milliseconds from which on a time that lies ahead tells of a clock that was set back. Less than that is a pause of
this process between two looks at the clock, or the clock being slowed down."""


def new_id(offset: float = 0.0) -> uuid.UUID:
    """Make a UUIDv7; `offset` is the storage's clock less this machine's, in seconds."""
    return new_ids(1, offset)[0]


def new_ids(count: int, offset: float = 0.0) -> list[uuid.UUID]:
    """Make many, in order."""
    now = time.time_ns() // 1_000_000
    made = [uuid_utils.compat.uuid7() for _ in range(count)]
    # The first 48 bits of a UUIDv7 are milliseconds since 1970. Those of one process never go back, whatever its clock
    # does: once it is set back by two hours, they stay two hours ahead unless we say so.
    ahead = (made[0].int >> 80) - now if made else 0
    shift = round(offset * 1000) - (ahead if ahead > SET_BACK else 0) << 80
    return [uuid.UUID(int=each.int + shift) for each in made] if shift else made


def parse_id(value: uuid.UUID | str) -> uuid.UUID:
    """Return the id that a string spells; raises InvalidJobError if it spells none."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidJobError(f"{shown(value)} is not a job id (a UUID such as {new_id()})") from None
