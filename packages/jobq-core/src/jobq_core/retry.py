"""When a job that failed runs again.

Exponential backoff with full jitter: the delay is drawn evenly from 0 to the backoff, so that jobs which failed
together do not return together. Marc Brooker, 'Exponential Backoff And Jitter' (AWS Architecture Blog, 2015), measured
it against the alternatives.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import attrs

from jobq_core.checks import Seconds, check_bool, check_exceptions, is_number, to_seconds
from jobq_core.errors import (
    AbortSignalJobError,
    ConfigurationError,
    JobDisabledError,
    PermanentJobError,
    RetryableJobError,
    Snooze,
)
from jobq_core.reprs import short_repr

_TEN_YEARS: Final = 10 * 365 * 86_400


# Converters. Each is annotated with the types that callers may pass: mypy takes them for those of the parameter.
def _base(value: Seconds) -> float:
    return _wait(value, "base")


def _maximum(value: Seconds) -> float:
    return _wait(value, "maximum")


def _wait(value: Any, name: str) -> float:
    seconds = to_seconds(value)
    if not is_number(seconds) or not 0 <= seconds <= _TEN_YEARS:
        raise ConfigurationError(
            f"Backoff: {name} must be 0 seconds or more (and at most 10 years), not {short_repr(value)}"
        )
    return float(seconds)


def _factor(value: float) -> float:
    if not is_number(value) or not 1 <= value <= 100:
        raise ConfigurationError(f"Backoff: factor must be from 1 to 100, not {short_repr(value)}")
    return float(value)


def _jitter(value: bool) -> bool:
    return check_bool(value, "Backoff: jitter")


@attrs.frozen(kw_only=True)
class Backoff:
    """How long a job waits before its next attempt.

    base: wait before the second attempt, in seconds or as a timedelta (default 1 second).
    factor: ratio of each wait to the one before it, from 1 to 100 (default 2).
    maximum: longest wait, in seconds or as a timedelta (default 1 hour).
    jitter: draw the delay evenly from 0 to the wait (default), or use the wait itself.

    The attributes hold seconds. Raises ConfigurationError for a value out of range: waits are at most 10 years.
    """

    base: float = attrs.field(default=1.0, converter=_base)
    factor: float = attrs.field(default=2.0, converter=_factor)
    maximum: float = attrs.field(default=3600.0, converter=_maximum)
    jitter: bool = attrs.field(default=True, converter=_jitter)

    def delay(self, attempt: int, draw: Callable[[], float] = random.random) -> float:
        """Return the seconds to wait after attempt number `attempt` failed; the first attempt is 1.

        draw: returns a random number in [0, 1).
        """
        # The bound keeps the power from overflowing.
        wait = min(self.base * self.factor ** min(attempt - 1, 64), self.maximum)
        return wait * draw() if self.jitter else wait


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

    An exception group counts as the exceptions in it: one that fails the job immediately is enough.

    backoff: the wait between attempts (default: `Backoff()`).
    fail_on: exception types that fail the job immediately, as PermanentJobError does (default: none).
    retry_on: the only exception types that run the job again; any other fails it immediately (default: all types).

    Raises ConfigurationError for an argument of another type.
    """

    backoff: Backoff = attrs.field(factory=Backoff, converter=_backoff)
    fail_on: tuple[type[BaseException], ...] = attrs.field(default=(), converter=_fail_on)
    retry_on: tuple[type[BaseException], ...] | None = attrs.field(default=None, converter=_retry_on)

    def retries(self, error: BaseException) -> bool:
        """Return whether a job that raised this exception gets another attempt. One that asks for it by
        RetryableJobError gets it unless `fail_on` names its type."""
        if isinstance(error, (PermanentJobError, *self.fail_on)):
            return False
        if isinstance(error, RetryableJobError) or (self.retry_on is not None and isinstance(error, self.retry_on)):
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(self.retries(one) for one in leaves(error))
        return self.retry_on is None


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Iterate over the exceptions in a group, at any depth. An exception that is not a group yields itself."""
    pending = [error]
    while pending:
        one = pending.pop()
        if isinstance(one, BaseExceptionGroup):
            pending += reversed(one.exceptions)
        else:
            yield one


def deciding(error: BaseException) -> BaseException:
    """Return the exception in a group that says how the run ends; the exception itself if there is none.

    It is the first PermanentJobError, AbortSignalJobError, JobDisabledError or RetryableJobError, in this order of
    rank. A Snooze decides if nothing else was raised, and so does any exception that is alone in its group.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = list(leaves(error))
    for rank in _RANKS:
        for one in found:
            if isinstance(one, rank):
                return one
    if len(found) == 1 or all(isinstance(one, Snooze) for one in found):
        return found[0]
    return error


_RANKS: Final = (PermanentJobError, AbortSignalJobError, JobDisabledError, RetryableJobError)
