"""`QueueOptions`: what is stored of a queue itself, and who set it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

import attrs
from msgspec import Struct

from jobq_core.checks import Seconds, is_number, to_seconds
from jobq_core.errors import CENTURY, ConfigurationError
from jobq_core.reprs import short_repr


# Converters; mypy takes the types of their parameters for those of the class.
def _completed(value: Seconds | None) -> float | None:
    return _kept(value, "completed")


def _failed(value: Seconds | None) -> float | None:
    return _kept(value, "failed")


def _aborted(value: Seconds | None) -> float | None:
    return _kept(value, "aborted")


def _kept(value: Any, name: str) -> float | None:
    seconds = to_seconds(value)
    if seconds is None:
        return None
    if not is_number(seconds) or not 0 <= seconds <= CENTURY:
        raise ConfigurationError(
            f"Retention: {name} must be from 0 seconds to 100 years, or None (forever), not {short_repr(value)}"
        )
    return float(seconds)


@attrs.frozen(kw_only=True)
class Retention:
    """How long the finished jobs of a queue are kept after their end, in seconds or as a timedelta.

    completed: default 1 day; failed: default 14 days; aborted: default 1 day. 0 keeps none, None keeps all forever.

    The attributes hold seconds. Raises ConfigurationError for a value out of 0 to 100 years.
    """

    completed: float | None = attrs.field(default=86_400.0, converter=_completed)
    failed: float | None = attrs.field(default=14 * 86_400.0, converter=_failed)
    aborted: float | None = attrs.field(default=86_400.0, converter=_aborted)


QueueOwner: TypeAlias = Literal["operator", "worker"]
"""Who set an option of a queue: an operator, by hand; or a worker, from its own options, at its start."""


class QueueOptions(Struct, frozen=True, kw_only=True):
    """Options of a queue to set; None leaves an option as it is.

    paused: whether claims take nothing from the queue.
    retention: how long the queue keeps its finished jobs.
    actor: who pauses the queue, as a command or a server knows them.
    """

    paused: bool | None = None
    retention: Retention | None = None
    actor: str | None = None


class QueueRecord(Struct, frozen=True, kw_only=True):
    """A queue whose options were set.

    paused_at: when the queue was paused; None while it is not.
    paused_by: who paused it; None if that was not said.
    retention: None if it was never set; then `Retention()` holds.
    owner: who set the retention; None if it was never set.
    """

    name: str
    paused_at: datetime | None = None
    paused_by: str | None = None
    retention: Retention | None = None
    owner: QueueOwner | None = None
