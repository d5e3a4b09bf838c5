"""Batches of settlements: bounded by number and by size, smaller after an error, and without the ones that are busy.

- A settlement that the storage refuses is found by halving the batch, so that it does not block the others.
- A batch that the storage did not answer in time may be too large: the next one has half its bytes.
- A settlement whose job another transaction holds (busy) is sent again soon, beside the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from jobq_core.errors import ClosedError, StorageUnavailableError, UniqueKeyBusyError
from jobq_core.records import ErrorRecord, type_name
from jobq_core.retry import Backoff
from jobq_core.states import Ending
from jobq_core.storage import Settlement
from jobq_worker.claiming.budget import ByteBudget
from jobq_worker.running.run import Run
from jobq_worker.settling.finished import FinishedRuns, size_of

logger = logging.getLogger("jobq.worker")

BATCH: Final = 2000
"""Maximum number of settlements, and of claimed jobs, of one exchange. The fixed cost of an exchange (0.7 ms on
PostgreSQL) is small beside that of so many jobs."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Maximum size of the settlements of one exchange, unless one alone is larger."""
LEAST_BYTES: Final = 64 * 1024
"""The size that a batch is halved down to."""
REFUSALS: Final = 3
"""Refusals of a settlement sent alone after which its job is failed instead."""
BUSY = Backoff(base=0.05, factor=1.5, maximum=1.0, jitter=False)
"""The waits before busy settlements are sent again."""
LONG_BUSY_SECONDS: Final = 5.0
"""Time after which settlements that stay busy are logged."""


class Batches:
    """Takes batches of finished runs to settle.

    busy_at: when to send the busy ones again, by the clock; infinite if there are none.
    """

    def __init__(self, finished: FinishedRuns, clock: Callable[[], float]) -> None:
        self._finished = finished
        self._clock = clock
        self._limit = BATCH
        self._budget = ByteBudget(BATCH_BYTES, LEAST_BYTES)
        self._sent: list[Run] = []
        self._is_cut = False
        self._refusals = 0
        self._replaced: set[Run] = set()
        self._busy_answers = 0
        self._busy_since: float | None = None
        self._busy_logged = False
        self.busy_at = float("inf")

    @property
    def is_narrowed(self) -> bool:
        """Whether a refused settlement is being looked for; nothing is claimed meanwhile."""
        return self._limit < BATCH

    def next(self) -> list[Run]:
        """Return the runs to settle next; they stay where they are until `answered`."""
        if self._clock() >= self.busy_at:
            self.busy_at = float("inf")
            self._finished.release_busy()
        self._sent = self._finished.first(self._limit, self._budget.bytes)
        self._is_cut = len(self._sent) < len(self._finished.due)
        return self._sent

    def answered(self, busy: Sequence[int]) -> bool:
        """Record that the last batch was settled, except the settlements with the indexes `busy`.

        Returns whether more runs were due than the batch took.
        """
        self._limit, self._refusals = BATCH, 0
        self._budget.answered()
        if self._replaced:
            self._replaced.difference_update(self._sent)
        self._finished.remove(self._sent, busy)
        if busy:
            self._wait_busy()
        elif not self._finished.busy:
            self._busy_answers, self._busy_since, self._busy_logged = 0, None, False
        return self._is_cut

    def _wait_busy(self) -> None:
        now, count = self._clock(), self._finished.busy
        self._busy_answers += 1
        self.busy_at = min(self.busy_at, now + BUSY.delay(self._busy_answers))
        if self._busy_since is None:
            self._busy_since = now
        seconds = now - self._busy_since
        if seconds >= LONG_BUSY_SECONDS and not self._busy_logged:
            self._busy_logged = True
            logger.warning(
                "%d settlements have been waiting for up to %.0f s: another transaction holds their jobs",
                count,
                seconds,
            )

    def failed(self, error: Exception) -> None:
        """Make the next batch smaller, since this one raised."""
        if isinstance(error, (StorageUnavailableError, ClosedError)):
            self._budget.halve(sum([size_of(run.settlement) for run in self._sent]))
        else:
            self._refused(error)

    def _refused(self, error: Exception) -> None:
        """Halve the next batch. A settlement that is refused alone three times fails its job; a refused failure goes to
        the end.

        Any error counts, whatever its type: a storage that cannot encode a settlement may raise its driver's error.
        """
        self._limit = max(len(self._sent) // 2, 1) if self._sent else BATCH
        if len(self._sent) == 1 and isinstance(error, UniqueKeyBusyError):
            self._finished.rotate()  # an open transaction holds the key of a job that the run added: the others first
            return
        self._refusals = self._refusals + 1 if len(self._sent) == 1 else 0
        if self._refusals < REFUSALS:
            return
        self._refusals = 0
        [run] = self._sent
        if run in self._replaced:
            self._finished.rotate()
            return
        self._replaced.add(run)
        message = f"the storage refused how this run ended: {error}"
        record = ErrorRecord(type=type_name(type(error)), message=message)
        self._finished.replace_first(Settlement(run.job.id, run.job.lease, Ending.FAIL, error=record))
