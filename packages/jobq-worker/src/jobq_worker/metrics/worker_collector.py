"""`WorkerCollector`: the metrics of a worker, and of the whole storage while the worker does the maintenance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from jobq_core.errors import JobQueueError
from jobq_worker.metrics.storage_metrics import StorageMetrics, up
from jobq_worker.metrics.worker_metrics import WorkerMetrics
from jobq_worker.worker import JobQueueWorker

WAIT_SECONDS: Final = 2.0
"""Seconds to wait for a reading of the storage; a blocked event loop gives none."""


class WorkerCollector(Collector):
    """Collects the metrics of a worker, in any thread, whether the worker runs or not.

    One of the workers of a storage does the maintenance, and that one shows the metrics of the whole storage too: so
    they cost the storage the same, however many workers there are.
    """

    def __init__(self, worker: JobQueueWorker) -> None:
        self._worker = worker
        self._own = WorkerMetrics(worker)
        self._whole: StorageMetrics | None = None

    def describe(self) -> Iterable[Metric]:
        """Return the families whose names a registry checks: nothing is asked of the storage for it."""
        return [*self._own.families(), up(True)]

    def collect(self) -> Iterator[Metric]:
        """Yield the families, with `jobq_up`."""
        health, answers = self._worker.health(), True
        yield from self._own.families()
        if health.leads:
            answers = self._read()
            if self._whole is not None:
                yield from self._whole.families()
        yield up(health.state == "running" and answers and not health.storage_failing)

    def _read(self) -> bool:
        """Have the storage read on the worker's event loop; return whether it answered in time."""
        loop = self._worker.event_loop
        if loop is None:
            return False
        if self._whole is None or self._whole.storage is not self._worker.storage:
            self._whole = StorageMetrics(self._worker.storage)
        reading = asyncio.run_coroutine_threadsafe(self._whole.read(), loop)
        if _is_running(loop):
            return True  # waiting for it here would block the loop: the last reading is shown
        try:
            return reading.result(WAIT_SECONDS)
        except (FutureTimeoutError, JobQueueError):
            reading.cancel()
            return False


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the caller is on this event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
