"""Errors of the storage and of the limiter: logged once each, shown in health, and never a reason to give up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_core.retry import Backoff

logger = logging.getLogger("jobq.worker")

BACKOFF = Backoff(base=0.2, factor=2.0, maximum=5.0)


class Outages:
    """Records the failed calls of each part of a worker. An outage lasts while the last call of some part failed.

    A storage that cannot be reached is logged once for all parts. Any other error is logged once for each part, until a
    call of that part succeeds.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failing: dict[str, int] = {}
        self._since = 0.0
        self._unreachable: set[str] = set()
        self._unreachable_since = 0.0
        self._unreachable_errors = 0
        self._own: set[str] = set()
        self.errors = 0
        """The number of calls that failed since the worker was made."""
        self.last: str | None = None
        """The last error of the present outage; None while there is no outage."""

    def record_failure(self, part: str, error: BaseException) -> float:
        """Record that a call of this part failed; return the seconds to wait before the next try."""
        if not self._failing:
            self._since = self._clock()
        attempt = self._failing[part] = self._failing.get(part, 0) + 1
        self.errors += 1
        self.last = f"{type(error).__name__}: {error}"
        if isinstance(error, (StorageUnavailableError, ClosedError)):
            self._record_unreachable(part, error)
        elif part not in self._own:
            self._own.add(part)
            self._log_own(part, error)
        return max(BACKOFF.delay(attempt), 0.02)

    def _record_unreachable(self, part: str, error: BaseException) -> None:
        if not self._unreachable:
            self._unreachable_since, self._unreachable_errors = self._clock(), 0
            logger.warning("%s: the storage fails (%s: %s); retrying until it is back", self._name, part, error)
        self._unreachable.add(part)
        self._unreachable_errors += 1

    def _log_own(self, part: str, error: BaseException) -> None:
        if isinstance(error, StorageError):
            logger.warning("%s: %s failed; retrying: %s: %s", self._name, part, type(error).__name__, error)
        else:
            logger.error("%s: %s failed unexpectedly; retrying", self._name, part, exc_info=error)

    def record_success(self, part: str) -> None:
        """Record that a call of this part succeeded."""
        if part not in self._failing:
            return
        if part in self._own:
            logger.warning("%s: %s works again after %d errors", self._name, part, self._failing[part])
        self.forget(part)

    def forget(self, part: str) -> None:
        """Leave a part out that is not called here any more; the storage has answered another one."""
        self._failing.pop(part, None)
        self._own.discard(part)
        if part in self._unreachable:
            self._unreachable.remove(part)
            if not self._unreachable:
                away = self._clock() - self._unreachable_since
                errors = self._unreachable_errors
                logger.warning("%s: the storage is back after %.1f s and %d errors", self._name, away, errors)
        if not self._failing:
            self.last = None

    @property
    def now(self) -> bool:
        """Whether there is an outage."""
        return bool(self._failing)

    @property
    def seconds(self) -> float | None:
        """Seconds since the present outage began; None while there is no outage."""
        return self._clock() - self._since if self._failing else None
