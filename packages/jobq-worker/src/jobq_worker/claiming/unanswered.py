"""Claims whose answer was lost: the storage gave this worker jobs that it does not know about."""

from __future__ import annotations

import asyncio
from typing import Final

from jobq_core.storage import QueueStorage
from jobq_worker.liveness.registration import Registration
from jobq_worker.outages import Outages
from jobq_worker.running.pipeline import Pipeline

RECHECK_SECONDS: Final = (0.0, 5.0, 30.0, 120.0)
"""Times after a failed exchange at which to ask for such jobs: the claim's commit may come late, or another database
may answer now that does not know which jobs have ended."""
ROUTINE_SECONDS: Final = 120.0
"""Maximum interval between two questions without a failed exchange: a living worker must not hold a job back for much
longer than a dead one would. A late commit, or another database, may go unnoticed."""


class UnansweredClaims:
    """Knows when to ask which jobs this worker holds, and puts the unknown ones into the pipeline."""

    def __init__(self, storage: QueueStorage, registration: Registration, pipeline: Pipeline, outages: Outages) -> None:
        self._loop = asyncio.get_running_loop()
        self._storage = storage
        self._registration = registration
        self._pipeline = pipeline
        self._outages = outages
        self._interval = min(registration.info.lost_after, ROUTINE_SECONDS)
        self._routine_at = self._loop.time() + self._interval
        self._rechecks: list[float] = []
        self._not_before = 0.0

    @property
    def possible(self) -> bool:
        """Whether an exchange failed that may have claimed jobs, and the last recheck after it is not done."""
        return bool(self._rechecks)

    @property
    def due_at(self) -> float:
        """When to call `recover`, by the event loop's clock."""
        return max(self._not_before, min([self._routine_at, *self._rechecks]))

    def exchange_failed(self) -> None:
        """Plan the rechecks that follow a failed exchange."""
        now = self._loop.time()
        self._rechecks = [now + seconds for seconds in RECHECK_SECONDS]

    def recheck_once(self) -> None:
        """Do one recheck at once instead of the planned ones: the worker stops."""
        if self._rechecks:
            self._rechecks = [0.0]

    def end_backoff(self) -> None:
        """Do not wait for the end of a backoff: the worker stops."""
        self._not_before = 0.0

    async def recover(self) -> None:
        """Ask the storage for jobs that it gave to this worker and that are not in the pipeline.

        Raises nothing: if the question fails, it is asked again after a backoff, and settlements go on meanwhile.
        """
        before, worker = self._loop.time(), self._registration.id
        try:
            found = await self._storage.recover_claims(worker, self._pipeline.leases())
        except Exception as error:  # noqa: BLE001  (logged as an outage)
            self._not_before = self._loop.time() + self._outages.record_failure("recovery", error)
            return
        self._outages.record_success("recovery")
        while self._rechecks and self._rechecks[0] <= before:
            del self._rechecks[0]
        self._routine_at = before + self._interval
        if found and worker == self._registration.id:
            self._pipeline.take(found, before)
