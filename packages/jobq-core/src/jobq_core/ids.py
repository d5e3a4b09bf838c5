"""Ids of jobs and workers: UUIDs of version 7 (RFC 9562), which sort by time.

An id has 48 bits of milliseconds since 1970, a counter of 34 bits, 32 random bits, and, first among the last 62 bits,
8 bits for the number of a shard (0 today). Within a millisecond the counter starts at a random number.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from typing import Final

from jobq_core.errors import InvalidJobError
from jobq_core.reprs import short_repr

SET: Final = 500
"""Minimum difference, in milliseconds, between an id's time and the clock that means the clock was set. A smaller one
comes from a pause of this process, or from a clock that is slowed down."""

_FIXED: Final = 7 << 76 | 2 << 62
"""The version and the variant."""


class _Counter:
    """The time and the counter of the last id that this process made. Its ids are in order, in all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._time = 0
        self._last = 0

    def take(self, count: int, now: int) -> tuple[int, int, int]:
        """Return the milliseconds and the first counter of `count` ids, and 32 random bits. now: milliseconds."""
        random = int.from_bytes(os.urandom(9), "little")
        with self._lock:
            if now <= self._time < now + SET:
                now, first = self._time, self._last + 1
            else:
                first = random >> 39  # of 33 bits, so that there is room for as many ids above
            self._time, self._last = now, first + count - 1
        return now, first, random & 0xFFFF_FFFF


_counter = _Counter()


def new_id(offset: float = 0.0, now: float | None = None, *, shard: int = 0) -> uuid.UUID:
    """Return a new UUIDv7.

    offset: the storage's clock minus this machine's, in seconds (default 0).
    now: this machine's time at which the offset was read, in seconds since 1970 (default: the present time).
    shard: a number from 0 to 255 (default 0).
    """
    return new_ids(1, offset, now, shard=shard)[0]


def new_ids(count: int, offset: float = 0.0, now: float | None = None, *, shard: int = 0) -> list[uuid.UUID]:
    """Return `count` new UUIDv7s in ascending order; the other parameters are those of `new_id`."""
    wanted = time.time_ns() // 1_000_000 if now is None else int(now * 1000)
    moment, first, random = _counter.take(count, wanted)
    base = (moment + round(offset * 1000)) << 80 | _FIXED | shard << 54
    made: list[uuid.UUID] = []
    for number in range(first, first + count):
        made.append(uuid.UUID(int=base | number >> 22 << 64 | (number & 0x3F_FFFF) << 32 | random))
        random = (random * 1_664_525 + 1_013_904_223) & 0xFFFF_FFFF
    return made


def shard_of(job: uuid.UUID) -> int:
    """Return the number of the shard in an id."""
    return job.int >> 54 & 0xFF


def parse_id(value: uuid.UUID | str) -> uuid.UUID:
    """Return the id in a string; raises InvalidJobError for a string that is not a UUID."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidJobError(f"{short_repr(value)} is not a job id (a UUID such as {new_id()})") from None
