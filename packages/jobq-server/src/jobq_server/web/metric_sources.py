"""`MetricSources`: what `/metrics` reads, imported when it is asked for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobq_core.storage import QueueStorage

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from jobq_server.server import JobQueueServer
    from jobq_worker.metrics import StorageMetrics


class MetricSources:
    """What the metrics are read from, made once: counters must not start again."""

    def __init__(self, storage: QueueStorage, server: JobQueueServer | None) -> None:
        from jobq_worker.metrics import StorageMetrics, collector

        self.storage: StorageMetrics = StorageMetrics(storage)
        own = [] if server is None or server.has_processes else [collector(server)]
        self.all: list[Collector] = [*own, self.storage]
