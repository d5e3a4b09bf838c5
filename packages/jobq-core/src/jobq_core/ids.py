"""Ids of jobs and workers: UUIDs of version 7 (RFC 9562), which sort by time.

The last 8 of their random bits hold the number of a shard (0 today).
"""

from __future__ import annotations

import time
import uuid
from datetime import datetime
from typing import Final

import uuid_utils

from jobq_core.errors import InvalidJobError
from jobq_core.reprs import short_repr

SET: Final = 500
"""Minimum difference, in milliseconds, between an id's time and the clock that means the clock was set. A smaller one
comes from a pause of this process, or from a clock that is slowed down."""

_NOT_SHARD: Final = (1 << 128) - 0x100
_UNKNOWN: Final = uuid.SafeUUID.unknown
_set_attribute: Final = object.__setattr__


def new_id(offset: float = 0.0, now: float | None = None, *, shard: int = 0) -> uuid.UUID:
    """Return a new UUIDv7.

    offset: the storage's clock minus this machine's, in seconds (default 0).
    now: this machine's time at which the offset was read, in seconds since 1970 (default: the present time).
    shard: a number from 0 to 255 (default 0).
    """
    made = uuid_utils.uuid7().int
    return _make((made & _NOT_SHARD) + _shift(made, offset, now) + shard)


def new_ids(count: int, offset: float = 0.0, now: float | None = None, *, shard: int = 0) -> list[uuid.UUID]:
    """Return `count` new UUIDv7s in ascending order; the other parameters are those of `new_id`."""
    if count < 1:
        return []
    first = uuid_utils.uuid7().int
    shift = _shift(first, offset, now) + shard
    others = [uuid_utils.uuid7().int for _ in range(count - 1)]
    return [_make((each & _NOT_SHARD) + shift) for each in (first, *others)]


def _make(value: int) -> uuid.UUID:
    """Return `UUID(int=value)` without its checks, which take half of the time: each job needs an id."""
    made = object.__new__(uuid.UUID)
    _set_attribute(made, "int", value)
    _set_attribute(made, "is_safe", _UNKNOWN)
    return made


def _shift(made: int, offset: float, now: float | None) -> int:
    """Return what to add to an id that was made just now, and to those that are made with it."""
    wanted = time.time_ns() // 1_000_000 if now is None else int(now * 1000)
    # The first 48 bits of a UUIDv7 are milliseconds since 1970. In one process they never go back: after a clock is set
    # back, or since `now`, they are ahead by that much.
    ahead = (made >> 80) - wanted
    if abs(ahead) <= SET:
        ahead = 0
    return round(offset * 1000) - ahead << 80 if offset or ahead else 0


def shard_of(job: uuid.UUID) -> int:
    """Return the number of the shard in an id."""
    return job.int & 0xFF


def first_id_after(moment: datetime) -> uuid.UUID:
    """Return the lowest id that can be made in the millisecond after this moment."""
    return uuid.UUID(int=(int(moment.timestamp() * 1000) + 1) << 80)


def parse_id(value: uuid.UUID | str) -> uuid.UUID:
    """Return the id in a string; raises InvalidJobError for a string that is not a UUID."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidJobError(f"{short_repr(value)} is not a job id (a UUID such as {new_id()})") from None
