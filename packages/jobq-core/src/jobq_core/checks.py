"""Numbers that options take, checked where they enter: all parts refuse the same ones with the same words."""

from __future__ import annotations

from typing import Any

from jobq_core.errors import ConfigurationError


def check_count(value: Any, what: str, *, least: int = 0) -> int:
    """Return a whole number of `least` or more; raises ConfigurationError otherwise."""
    if type(value) is not int or value < least:
        raise ConfigurationError(f"{what} must be a whole number, {least} or more, not {value!r}")
    return int(value)


def check_span(value: Any, what: str) -> float:
    """Return seconds above 0 and below infinity; raises ConfigurationError otherwise."""
    if not _is_number(value) or not 0 < value < float("inf"):
        raise ConfigurationError(f"{what} must be more than 0 seconds, not {value!r}")
    return float(value)


def check_patience(value: Any, what: str, *, least: float = 0.0) -> float:
    """Return seconds of `least` or more and below infinity; raises ConfigurationError otherwise."""
    if not _is_number(value) or not least <= value < float("inf"):
        raise ConfigurationError(f"{what} must be {least:g} seconds or more, not {value!r}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
