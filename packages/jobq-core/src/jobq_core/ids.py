"""Ids of jobs and workers: UUIDs of version 7 (RFC 9562), which sort by the time they were made.

Behind the milliseconds stands the rest of the time in nanoseconds (the RFC's method 3), so that ids that one process
makes one after another are in order without a counter that threads or forks could share; then come 54 random bits.
"""

from __future__ import annotations

import os
import time
import uuid

from jobq_core.errors import InvalidJobError


def new_id(offset: float = 0.0) -> uuid.UUID:
    """Make a UUIDv7; `offset` is the storage's clock less this machine's, in seconds."""
    return new_ids(1, offset)[0]


def new_ids(count: int, offset: float = 0.0) -> list[uuid.UUID]:
    """Make many at once, in order: of one moment, and told apart by random numbers that grow by a random step."""
    milliseconds, rest = divmod(time.time_ns() + round(offset * 1e9), 1_000_000)
    noise = int.from_bytes(os.urandom(11))
    # Version and variant stand at fixed places between; the highest random bit is left for the steps.
    first = milliseconds << 80 | 0x7 << 76 | rest >> 8 << 64 | 0b10 << 62 | (rest & 0xFF) << 54 | noise >> 35
    step = (noise & 0xFFFF_FFFF) >> 1 | 1
    return [_of(number) for number in range(first, first + count * step, step)]


def _of(number: int) -> uuid.UUID:
    # As the standard library's own uuid7 makes them; the constructor's checks would take three times as long.
    made = object.__new__(uuid.UUID)
    object.__setattr__(made, "int", number)
    object.__setattr__(made, "is_safe", uuid.SafeUUID.unknown)
    return made


def parse_id(value: uuid.UUID | str) -> uuid.UUID:
    """Return the id that a string spells; raises InvalidJobError if it spells none."""
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise InvalidJobError(f"{value!r} is not a job id (a UUID such as {new_id()})") from None
