"""Times as storages keep them: whole microseconds since 1970, so that a datetime is returned as it was stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, overload

When: TypeAlias = datetime | float
"""A moment (an aware datetime), or a number of seconds from the storage's now."""

SECOND: Final = 1_000_000
"""Microseconds in a second."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_datetime(moment: int) -> datetime:
    """Return the aware datetime of a moment. A moment outside the years 1 to 9999, which only another program can have
    stored, gives the first or the last datetime."""
    try:
        return _EPOCH + timedelta(microseconds=moment)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if moment > 0 else datetime.min.replace(tzinfo=UTC)


def to_optional_datetime(moment: int | None) -> datetime | None:
    """Return the aware datetime of a moment; None stays None."""
    return None if moment is None else to_datetime(moment)


@overload
def to_moment(when: When, now: int) -> int: ...
@overload
def to_moment(when: When | None, now: int) -> int | None: ...
def to_moment(when: When | None, now: int) -> int | None:
    """Return the moment of a datetime, or of a number of seconds after now; None stays None."""
    if when is None:
        return None
    if isinstance(when, datetime):
        return (when - _EPOCH) // _MICROSECOND
    return now + round(when * SECOND)
