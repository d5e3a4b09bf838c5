"""What goes wrong with the storage: told once per outage, shown in health, never a reason to give up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from jobq_core.errors import ClosedError, StorageError
from jobq_core.retry import Backoff

logger = logging.getLogger("jobq.worker")

BACKOFF = Backoff(base=0.2, factor=2.0, maximum=5.0)


class Outages:
    """The errors of each part of a worker that talks to the storage; an outage lasts while any of them has one."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._failing: dict[str, int] = {}
        self._since = 0.0
        self._in_outage = 0
        self.errors = 0
        """How many calls failed since the worker was made."""
        self.last: str | None = None
        """The last error, while the outage goes on."""

    def record_failure(self, part: str, error: BaseException) -> float:
        """Note that a call of this part failed, and return the seconds to wait before the next try."""
        if not isinstance(error, (StorageError, ClosedError)):
            logger.error("%s: %s failed unexpectedly; it goes on", self._name, part, exc_info=error)
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
        """Note that a call of this part worked."""
        if self._failing.pop(part, None) is not None and not self._failing:
            away = self._clock() - self._since
            logger.warning("%s: the storage is back after %.1f s and %d errors", self._name, away, self._in_outage)
            self.last = None

    @property
    def now(self) -> bool:
        """Whether some part cannot reach the storage at present."""
        return bool(self._failing)

    @property
    def seconds(self) -> float | None:
        """How long the outage has lasted; None while there is none."""
        return self._clock() - self._since if self._failing else None
