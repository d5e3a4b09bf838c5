"""Ids of jobs and workers: UUIDs of version 7 (RFC 9562), which sort by time."""

from __future__ import annotations

import time
import uuid
from typing import Final

import uuid_utils.compat

from jobq_core.errors import InvalidJobError
from jobq_core.reprs import short_repr

SET: Final = 500
"""Minimum difference, in milliseconds, between an id's time and the clock that means the clock was set. A smaller one
comes from a pause of this process, or from a clock that is slowed down."""


def new_id(offset: float = 0.0, now: float | None = None) -> uuid.UUID:
    """Return a new UUIDv7.

    offset: the storage's clock minus this machine's, in seconds (default 0).
    now: this machine's time at which the offset was read, in seconds since 1970 (default: the present time).
    """
    return new_ids(1, offset, now)[0]


def new_ids(count: int, offset: float = 0.0, now: float | None = None) -> list[uuid.UUID]:
    """Return `count` new UUIDv7s in ascending order; the other parameters are those of `new_id`."""
    wanted = time.time_ns() // 1_000_000 if now is None else int(now * 1000)
    made = [uuid_utils.compat.uuid7() for _ in range(count)]
    # The first 48 bits of a UUIDv7 are milliseconds since 1970. In one process they never go back: after a clock is set
    # back, or since `now`, they are ahead by that much.
    ahead = (made[0].int >> 80) - wanted if made else 0
    shift = round(offset * 1000) - (ahead if abs(ahead) > SET else 0) << 80
    return [uuid.UUID(int=each.int + shift) for each in made] if shift else made


def parse_id(value: uuid.UUID | str) -> uuid.UUID:
    """Return the id in a string; raises InvalidJobError for a string that is not a UUID."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidJobError(f"{short_repr(value)} is not a job id (a UUID such as {new_id()})") from None
