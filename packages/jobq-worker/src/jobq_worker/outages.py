"""Errors of the storage: logged once per outage, shown in health, and never a reason to give up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from jobq_core.errors import ClosedError, StorageError
from jobq_core.retry import Backoff

logger = logging.getLogger("jobq.worker")

BACKOFF = Backoff(base=0.2, factor=2.0, maximum=5.0)


class Outages:
    """Records the failed calls of each part of a worker. An outage lasts while the last call of some part failed."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failing: dict[str, int] = {}
        self._since = 0.0
        self._in_outage = 0
        self.errors = 0
        """The number of calls that failed since the worker was made."""
        self.last: str | None = None
        """The last error of the present outage; None while there is no outage."""

    def record_failure(self, part: str, error: BaseException) -> float:
        """Record that a call of this part failed; return the seconds to wait before the next try."""
        if not isinstance(error, (StorageError, ClosedError)):
            logger.error("%s: %s failed unexpectedly and is tried again", self._name, part, exc_info=error)
        elif not self._failing:
            logger.warning("%s: the storage fails (%s: %s); retrying until it is back", self._name, part, error)
        if not self._failing:
            self._since, self._in_outage = self._clock(), 0
        attempt = self._failing[part] = self._failing.get(part, 0) + 1
        self._in_outage += 1
        self.errors += 1
        self.last = f"{type(error).__name__}: {error}"
        return max(BACKOFF.delay(attempt), 0.02)

    def record_success(self, part: str) -> None:
        """Record that a call of this part succeeded."""
        if self._failing.pop(part, None) is not None and not self._failing:
            away = self._clock() - self._since
            logger.warning("%s: the storage is back after %.1f s and %d errors", self._name, away, self._in_outage)
            self.last = None

    @property
    def now(self) -> bool:
        """Whether there is an outage."""
        return bool(self._failing)

    @property
    def seconds(self) -> float | None:
        """Seconds since the present outage began; None while there is no outage."""
        return self._clock() - self._since if self._failing else None
