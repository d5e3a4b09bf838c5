"""Metrics for Prometheus, of workers and of whole storages. Needs prometheus-client: the extra `metrics`.

`jobq worker --metrics-port` serves them. A program with a registry of its own registers `collector(worker)` there.
"""

from __future__ import annotations

from jobq_worker.metrics.storage_metrics import StorageMetrics as StorageMetrics
from jobq_worker.metrics.text import metrics_text as metrics_text
from jobq_worker.metrics.worker_collector import WorkerCollector as WorkerCollector
from jobq_worker.worker import JobQueueWorker

__all__ = ["StorageMetrics", "WorkerCollector", "collector", "metrics_text"]


def collector(worker: JobQueueWorker) -> WorkerCollector:
    """Return the collector of a worker or server, for `registry.register(collector(worker))`; one for each registry.

    The worker counts its exchanges and runs from this call on.
    """
    return WorkerCollector(worker)
