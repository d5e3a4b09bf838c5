"""Settlements that the storage refuses: found by halving the batch, so that one of them does not block the others."""

from __future__ import annotations

from itertools import islice
from typing import Final

from jobq_core.records import ErrorRecord, type_name
from jobq_core.states import Ending
from jobq_core.storage import Settlement
from jobq_worker.pipeline import Pipeline
from jobq_worker.run import Run

BATCH: Final = 2000
"""Maximum number of settlements, and of claimed jobs, of one exchange. The fixed cost of an exchange (0.7 ms on
PostgreSQL) is small beside that of so many jobs."""
REFUSALS: Final = 3
"""Refusals of a settlement sent alone after which its job is failed instead."""


class Batches:
    """Takes batches of finished runs from the pipeline: smaller ones while the storage refuses some settlement."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._limit = BATCH
        self._sent = 0
        self._refusals = 0
        self._replaced: set[Run] = set()

    @property
    def is_narrowed(self) -> bool:
        """Whether a refused settlement is being looked for; nothing is claimed meanwhile."""
        return self._limit < BATCH

    def next(self) -> list[Run]:
        """Return the runs to settle next; they stay in the pipeline until `settled`."""
        runs = list(islice(self._pipeline.finished, self._limit))
        self._sent = len(runs)
        return runs

    def settled(self, runs: list[Run]) -> None:
        """Take the runs of the last batch out of the pipeline."""
        self._limit, self._refusals = BATCH, 0
        self._replaced.difference_update(runs)
        for _ in runs:
            self._pipeline.finished.popleft()

    def refused(self, error: Exception) -> None:
        """Halve the next batch. A settlement that is refused alone three times fails its job; a refused failure goes to
        the end.

        Any error counts, whatever its type: a storage that cannot encode a settlement may raise its driver's error.
        """
        self._limit = max(self._sent // 2, 1) if self._sent else BATCH
        self._refusals = self._refusals + 1 if self._sent == 1 else 0
        if self._refusals < REFUSALS:
            return
        self._refusals = 0
        finished = self._pipeline.finished
        run = finished[0]
        if run in self._replaced:
            finished.rotate(-1)
            return
        self._replaced.add(run)
        message = f"the storage refused how this run ended: {error}"
        record = ErrorRecord(type=type_name(type(error)), message=message)
        run.settlement = Settlement(run.job.id, run.job.lease, Ending.FAIL, error=record)
