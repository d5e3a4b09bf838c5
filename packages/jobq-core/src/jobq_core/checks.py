"""Checks of option values, shared by all packages so that each refuses the same values with the same words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from jobq_core.errors import CENTURY, ConfigurationError
from jobq_core.reprs import short_repr

Seconds: TypeAlias = float | timedelta
"""A length of time: a number of seconds, or a timedelta."""


def check_count(value: Any, what: str, *, least: int = 0, most: int | None = None) -> int:
    """Return a whole number of `least` or more, up to `most`; raises ConfigurationError otherwise."""
    if type(value) is not int or value < least or (most is not None and value > most):
        wanted = f"{least} or more" + ("" if most is None else f" and at most {most}")
        raise ConfigurationError(f"{what} must be a whole number, {wanted}, not {short_repr(value)}")
    return int(value)


def to_seconds(value: Any) -> Any:
    """Return the seconds of a timedelta, and any other value as it is."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def check_positive_seconds(value: Any, what: str) -> float:
    """Return the seconds of a number or timedelta above 0, up to 100 years; raises ConfigurationError otherwise."""
    seconds = to_seconds(value)
    if not is_number(seconds) or not 0 < seconds <= CENTURY:
        raise ConfigurationError(f"{what} must be more than 0 seconds (at most 100 years), not {short_repr(value)}")
    return float(seconds)


def check_seconds(value: Any, what: str, *, least: float = 0.0) -> float:
    """Return the seconds of a number or timedelta of at least `least` seconds, up to 100 years; raises
    ConfigurationError otherwise."""
    seconds = to_seconds(value)
    if not is_number(seconds) or not least <= seconds <= CENTURY:
        raise ConfigurationError(
            f"{what} must be {least:g} seconds or more (and at most 100 years), not {short_repr(value)}"
        )
    return float(seconds)


def check_moment(value: Any, what: str) -> datetime:
    """Return an aware datetime that storages can keep; raises ConfigurationError otherwise."""
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{what} must be an aware datetime, not {short_repr(value)}")
    if value.utcoffset() is None:
        raise ConfigurationError(f"{what} needs a time zone, as datetime.now(UTC) has")
    try:
        value.astimezone(UTC)  # as storages keep it
    except OverflowError:
        raise ConfigurationError(f"{what} must lie in the years 1 to 9999 of UTC, not at {value}") from None
    return value


def check_list(values: Any, what: str, example: str) -> list[Any]:
    """Return the values of an iterable as a list; raises ConfigurationError for text and for other values."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ConfigurationError(f"{what} must be several, as in {example}, not {short_repr(values)}")
    return list(values)


def check_exceptions(values: Any, what: str) -> tuple[type[Any], ...]:
    """Return types of exceptions as a tuple; raises ConfigurationError for other values."""
    types = check_list(values, what, f"{what}=[TimeoutError]")
    for one in types:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise ConfigurationError(f"{what} must be types of exceptions, not {short_repr(one)}")
    return tuple(types)


def is_one_of(value: Any, names: Iterable[str]) -> bool:
    """Return whether a value is one of these names, or a member of a StrEnum with such a name.

    The enumeration itself would raise an error that shows the value, and some values cannot be shown.
    """
    return isinstance(value, str) and value in tuple(names)


def check_bool(value: Any, what: str) -> bool:
    """Return True or False; raises ConfigurationError otherwise."""
    if type(value) is not bool:
        raise ConfigurationError(f"{what} must be True or False, not {short_repr(value)}")
    return value


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float, and not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
