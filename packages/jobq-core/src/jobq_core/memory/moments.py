"""Time in the memory storage: whole microseconds since 1970, so that a datetime comes out as it went in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from jobq_core.storage import When

SECOND: Final = 1_000_000
"""Microseconds of a second."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_datetime(moment: int) -> datetime:
    """Return the aware datetime of a moment."""
    return _EPOCH + timedelta(microseconds=moment)


def to_moment(when: When, now: int) -> int:
    """Return the moment that a datetime names, or that lies so many seconds after now."""
    if isinstance(when, datetime):
        return (when - _EPOCH) // _MICROSECOND
    return now + round(when * SECOND)
