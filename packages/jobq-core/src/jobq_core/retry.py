"""When a job that failed runs again.

Exponential backoff with full jitter, as measured best against herds in Marc Brooker, 'Exponential Backoff And Jitter'
(AWS Architecture Blog, 2015): the delay is drawn evenly from 0 to the backoff, so that jobs which failed together do
not come back together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import attrs
from msgspec import Struct

from jobq_core.checks import check_bool, check_exceptions, is_number
from jobq_core.errors import ConfigurationError, PermanentJobError
from jobq_core.reprs import short_repr


def _check_backoff(backoff: Backoff) -> None:
    for name in ("base", "maximum"):
        value = getattr(backoff, name)
        if not is_number(value) or not 0 <= value <= 10 * 365 * 86400:
            raise ConfigurationError(
                f"Backoff: {name} must be 0 seconds or more (and at most 10 years), not {short_repr(value)}"
            )
    if not is_number(backoff.factor) or not 1 <= backoff.factor <= 100:
        raise ConfigurationError(f"Backoff: factor must be from 1 to 100, not {short_repr(backoff.factor)}")
    check_bool(backoff.jitter, "Backoff: jitter")


class Backoff(Struct, frozen=True, kw_only=True):
    """How long to wait before the next attempt.

    base: seconds before the second attempt (default 1).
    factor: by how much each further wait is longer (default 2).
    maximum: the longest wait in seconds (default 3600).
    jitter: draw the delay evenly from 0 to the wait (default), or take the wait as it is.

    Raises ConfigurationError for negative times or a factor below 1.
    """

    base: float = 1.0
    factor: float = 2.0
    maximum: float = 3600.0
    jitter: bool = True

    def __post_init__(self) -> None:
        _check_backoff(self)

    def delay(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Return the seconds to wait after attempt number `attempt` (1 is the first) failed.

        `draw` gives a number in [0, 1); tests give their own.
        """
        # Beyond 2**64 the wait is at its maximum anyway; the bound keeps the power from overflowing.
        wait = min(self.base * self.factor ** min(attempt - 1, 64), self.maximum)
        return wait * draw() if self.jitter else wait


# Functions with types of their own: mypy takes those of a converter for the types of what is given.
def _fail_on(types: Iterable[type[BaseException]]) -> tuple[type[BaseException], ...]:
    return check_exceptions(types, "fail_on")


def _retry_on(types: Iterable[type[BaseException]] | None) -> tuple[type[BaseException], ...] | None:
    return None if types is None else check_exceptions(types, "retry_on")


def _backoff(backoff: Backoff) -> Backoff:
    if not isinstance(backoff, Backoff):
        raise ConfigurationError(f"backoff must be a Backoff, not {short_repr(backoff)}")
    return backoff


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Which exceptions run a job again, and when. Declared with the job: `@job(retry=RetryPolicy(…))`.

    backoff: the wait between attempts.
    fail_on: exception types that fail the job at once, as PermanentJobError does.
    retry_on: if given, only these exception types run the job again; any other fails it at once.

    Raises ConfigurationError for what is no Backoff and no type of exceptions.
    """

    backoff: Backoff = attrs.field(factory=Backoff, converter=_backoff)
    fail_on: tuple[type[BaseException], ...] = attrs.field(default=(), converter=_fail_on)
    retry_on: tuple[type[BaseException], ...] | None = attrs.field(default=None, converter=_retry_on)

    def retries(self, error: BaseException) -> bool:
        """Say whether this exception is worth another attempt."""
        if isinstance(error, (PermanentJobError, *self.fail_on)):
            return False
        return self.retry_on is None or isinstance(error, self.retry_on)
