"""The metrics of one worker, from what it knows of itself: nothing is asked of the storage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from jobq_core.events import JobStarted
from jobq_worker.metrics.labels import MAX_KINDS, MAX_QUEUES, Labels
from jobq_worker.settling.exchanges import Buckets
from jobq_worker.worker import JobQueueWorker

K = TypeVar("K", bound=tuple[str, ...])


class WorkerMetrics:
    """Shows a worker as families of Prometheus; may be asked in any thread. The worker counts its exchanges and the
    starts of its runs from now on."""

    def __init__(self, worker: JobQueueWorker) -> None:
        self._worker = worker
        self._queues = Labels(MAX_QUEUES)
        self._kinds = Labels(MAX_KINDS)
        self._refused = Labels(MAX_KINDS)
        if not worker.exchanges.enabled:  # by another collector of this worker
            worker.exchanges.enabled = True
            worker.on(JobStarted, worker.exchanges.started)

    def families(self) -> Iterator[Metric]:
        """Yield the families."""
        yield from self._liveness()
        yield from self._slots()
        yield from self._runs()
        yield _histogram(
            "jobq_exchange_seconds",
            "Duration of an exchange, a call to the storage that settles and claims jobs.",
            self._worker.exchanges.seconds,
        )
        yield _histogram(
            "jobq_exchange_jobs",
            "Number of jobs that one exchange settled and claimed.",
            self._worker.exchanges.jobs,
        )
        connections = GaugeMetricFamily(
            "jobq_pool_connections", "Connections of this process to the database, by state.", labels=["state"]
        )
        if self._worker.event_loop is not None:
            for state, number in self._worker.storage.connections.items():
                connections.add_metric([state], number)
        yield connections

    def _liveness(self) -> Iterator[Metric]:
        health, name = self._worker.health(), self._worker.name
        if health.since_beat is not None:
            yield _of_worker(
                "jobq_worker_heartbeat_age_seconds", "Seconds since the last heartbeat.", name, health.since_beat
            )
        yield _of_worker(
            "jobq_worker_loop_lag_seconds",
            "Seconds for which the event loop has been blocked; 0 while it responds.",
            name,
            health.loop_lag,
        )
        yield _of_worker(
            "jobq_worker_hears_notifications",
            "1 while notifications of other processes arrive; 0 while the worker polls.",
            name,
            health.hears,
        )
        yield _of_worker("jobq_worker_leads", "1 while the worker does the maintenance.", name, health.leads)
        yield _of_worker(
            "jobq_limiter_open_in_seconds",
            "Seconds until the limiter of the worker may permit a start; 0 if it holds nothing back.",
            name,
            health.limited or 0.0,
        )
        yield CounterMetricFamily(
            "jobq_storage_errors", "Calls to the storage or the limiter that failed.", value=health.storage_errors
        )

    def _slots(self) -> Iterator[Metric]:
        health = self._worker.health()
        slots = GaugeMetricFamily("jobq_worker_slots", "Slots of the worker, by state.", labels=["worker", "state"])
        for state, number in (
            ("busy", max(health.running - health.hung, 0)),
            ("free", health.free),
            ("hung", health.hung),
        ):
            slots.add_metric([self._worker.name, state], number)
        yield slots

    def _runs(self) -> Iterator[Metric]:
        exchanges = self._worker.exchanges
        yield self._by_queue_and_kind("jobq_runs_started", "Runs that this worker has started.", exchanges.starts)
        yield self._by_queue_and_kind("jobq_runs", "Runs of this worker, by ending.", exchanges.runs, "ending")
        health, stats = self._worker.health(), self._worker.pool_stats().total
        refused = CounterMetricFamily(
            "jobq_refused_jobs",
            "Jobs that this worker could not take: it does not know their kind, or their arguments do not fit.",
            labels=["kind", "reason"],
        )
        for reason, kinds in (("unknown kind", stats.unknown_kinds), ("arguments do not fit", stats.unfit_kinds)):
            numbers: Counter[str] = Counter()
            for kind, number in kinds.items():
                numbers[self._refused.of(kind)] += number
            for kind, number in numbers.items():
                refused.add_metric([kind, reason], number)
        yield refused
        yield CounterMetricFamily(
            "jobq_lost_leases", "Runs that lost their lease before their end was stored.", value=health.lost_leases
        )
        yield CounterMetricFamily(
            "jobq_lost_workers", "Lost workers whose jobs this worker rescued.", value=health.lost_workers
        )

    def _by_queue_and_kind(self, name: str, text: str, numbers: Mapping[K, int], *further: str) -> Metric:
        """Return a counter of numbers by queue, kind and further labels, in this order."""
        sums: Counter[tuple[str, ...]] = Counter()
        for (queue, kind, *others), number in list(numbers.items()):
            sums[self._queues.of(queue), self._kinds.of(kind), *others] += number
        counter = CounterMetricFamily(name, text, labels=["queue", "kind", *further])
        for labels, number in sums.items():
            counter.add_metric(labels, number)
        return counter


def _of_worker(name: str, text: str, worker: str, value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["worker"])
    family.add_metric([worker], float(value))
    return family


def _histogram(name: str, text: str, buckets: Buckets) -> Metric:
    counts = list(accumulate(buckets.counts))
    bounds = [*map(repr, map(float, buckets.bounds)), "+Inf"]
    return HistogramMetricFamily(name, text, buckets=list(zip(bounds, counts, strict=True)), sum_value=buckets.sum)
