"""`StorageMetrics`: the metrics of a whole storage: its queues, what ended in them, and its workers.

They are read by a few queries whose cost does not grow with the jobs, when somebody asks for the metrics, and at most
every READ_SECONDS. Durations come from the statistics that the storage keeps anyway: nothing is measured for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeVar

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from jobq_core.errors import ClosedError, ConfigurationError, JobQueueError, StorageUnavailableError
from jobq_core.records import WorkerRecord
from jobq_core.states import JobState, is_finished
from jobq_core.storage import Depth, QueueRecord, QueueStorage
from jobq_worker.metrics.labels import MAX_KINDS, MAX_QUEUES, Labels
from jobq_worker.metrics.totals import EndedTotals, Key, Total

logger = logging.getLogger("jobq.worker")

T = TypeVar("T")

READ_SECONDS: Final = 5.0
"""Minimum interval between two readings of a storage."""
TIME_LIMIT: Final = 5.0
"""Seconds that a reading may take; then the metrics of the storage are left out."""
UNFINISHED: Final = tuple(state for state in JobState if not is_finished(state))

_POWERS: Final = range(2, 25, 2)
BOUNDS: Final = tuple(2**power / 1000 for power in _POWERS)
"""The upper bounds of the buckets for waiting and running, in seconds: 4 ms to 4.7 h, each four times the last."""


@attrs.frozen(kw_only=True)
class Reading:
    """What was read of a storage. at: the storage's now."""

    at: datetime
    depths: Sequence[Depth]
    ended: dict[Key, Total]
    workers: Sequence[WorkerRecord]
    queues: Sequence[QueueRecord]
    oldest_transaction: float | None


class StorageMetrics(Collector):
    """Reads the metrics of an open storage, and shows the last reading as families of Prometheus."""

    def __init__(self, storage: QueueStorage) -> None:
        self.storage = storage
        self._queue_labels = Labels(MAX_QUEUES)
        self._totals = EndedTotals(self._queue_labels, Labels(MAX_KINDS))
        self._seen: set[str] = set()
        self._reading: Reading | None = None
        self._read_at = float("-inf")
        self._answered = False
        self._logged: set[str] = set()
        self._lock = asyncio.Lock()

    async def read(self) -> bool:
        """Read the storage, unless that was done less than READ_SECONDS ago; return whether it answered.

        A storage that refuses it, for lack of a privilege, has answered: its metrics are missing, and the log says why.
        Call it on the event loop of the storage.
        """
        now = asyncio.get_running_loop().time
        async with self._lock:
            if now() - self._read_at >= READ_SECONDS:
                self._reading, self._answered = None, True
                try:
                    async with asyncio.timeout(TIME_LIMIT):
                        self._reading = await self._read()
                except (StorageUnavailableError, ClosedError, TimeoutError):
                    self._answered = False
                except JobQueueError as error:
                    self._log(error)
                self._read_at = now()
            return self._answered

    def _log(self, error: JobQueueError) -> None:
        """Log an error that will come again, once."""
        if str(error) not in self._logged:
            self._logged.add(str(error))
            logger.warning("the metrics of the storage cannot be read: %s", error)

    async def _read(self) -> Reading:
        storage = self.storage
        at = await storage.now()
        records = await storage.statistics(since=self._totals.since(at))
        self._totals.take(records, at)
        return Reading(
            at=at,
            depths=await _unless_missing(storage.depths(), []),
            ended=self._totals.read(),
            workers=await storage.workers(),
            queues=await storage.queues(),
            oldest_transaction=await storage.oldest_transaction(),
        )

    def collect(self) -> Iterator[Metric]:
        """Yield the families of the last reading, and `jobq_up`. May be called in any thread."""
        yield from self.families()
        yield up(self._answered)

    def families(self) -> Iterator[Metric]:
        """Yield the families of the last reading; none if the storage did not answer."""
        reading = self._reading
        if reading is None:
            return
        yield from self._depths(reading)
        yield from _ended(reading.ended)
        yield from self._workers(reading)
        if reading.oldest_transaction is not None:
            yield GaugeMetricFamily(
                "jobq_oldest_transaction_seconds",
                "Age of the oldest open transaction of the database: no dead row that it may see is removed.",
                value=reading.oldest_transaction,
            )

    def _depths(self, reading: Reading) -> Iterator[Metric]:
        label = self._queue_labels.of
        self._seen |= {label(depth.queue) for depth in reading.depths}
        self._seen |= {label(queue) for worker in reading.workers for queue in worker.info.queues}
        jobs = Counter({(queue, state): 0 for queue in self._seen for state in UNFINISHED})
        oldest = dict.fromkeys(jobs, 0.0)
        for depth in reading.depths:
            key = label(depth.queue), depth.state
            jobs[key] += depth.jobs
            if depth.oldest is not None and depth.jobs:
                oldest[key] = max(oldest.get(key, 0.0), (reading.at - depth.oldest).total_seconds())
        count = GaugeMetricFamily("jobq_queue_jobs", "Jobs by queue and state.", labels=["queue", "state"])
        for (queue, state), number in jobs.items():
            count.add_metric([queue, state.value], number)
        age = GaugeMetricFamily(
            "jobq_queue_oldest_seconds",
            "How long the oldest job in this state has been in it; 0 without jobs.",
            labels=["queue", "state"],
        )
        for (queue, state), seconds in oldest.items():
            age.add_metric([queue, state.value], seconds)
        paused = GaugeMetricFamily(
            "jobq_queue_paused_seconds", "Seconds since the queue was paused; 0 while it is not.", labels=["queue"]
        )
        since = {label(queue.name): queue.paused_at for queue in reading.queues}
        for queue in self._seen | set(since):
            at = since.get(queue)
            paused.add_metric([queue], 0.0 if at is None else max((reading.at - at).total_seconds(), 0.0))
        yield from (count, age, paused)

    def _workers(self, reading: Reading) -> Iterator[Metric]:
        live = [worker for worker in reading.workers if worker.is_alive(reading.at)]
        serving = Counter(dict.fromkeys(self._seen, 0))
        for worker in live:
            serving.update({self._queue_labels.of(queue) for queue in worker.info.queues})
        workers = GaugeMetricFamily("jobq_workers", "Live workers that serve the queue.", labels=["queue"])
        for queue, number in serving.items():
            workers.add_metric([queue], number)
        yield workers
        yield GaugeMetricFamily(
            "jobq_workers_expired",
            "Lost workers whose jobs have not been rescued yet.",
            value=len(reading.workers) - len(live),
        )


def up(value: bool) -> Metric:
    """Return the family `jobq_up`."""
    return GaugeMetricFamily("jobq_up", "1 while the storage responds and the worker is running.", value=float(value))


def _ended(totals: dict[Key, Total]) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "jobq_jobs_ended", "Jobs that have ended, by final state.", labels=["queue", "kind", "state"]
    )
    waiting = HistogramMetricFamily(
        "jobq_job_waiting_seconds",
        "Time from pending to the claim of the last run, of jobs that have ended.",
        labels=["queue", "kind"],
    )
    running = HistogramMetricFamily(
        "jobq_job_running_seconds",
        "Time from the claim of the last run to its end, of jobs that have ended.",
        labels=["queue", "kind"],
    )
    sums: dict[tuple[str, str], Total] = {}
    for (queue, kind, state), total in totals.items():
        ended.add_metric([queue, kind, state.value], total.jobs)
        whole = sums.setdefault((queue, kind), Total())
        whole.merge(total)
    for (queue, kind), whole in sums.items():
        waiting.add_metric([queue, kind], cumulative(whole.waiting), whole.waiting_seconds)
        running.add_metric([queue, kind], cumulative(whole.running), whole.running_seconds)
    yield from (ended, waiting, running)


def cumulative(histogram: Mapping[int, int]) -> list[tuple[str, float]]:
    """Return the cumulative buckets of Prometheus. The storage's bucket n ends at 2^((n+1)/2) milliseconds."""
    found: list[tuple[str, float]] = [
        (repr(bound), sum(number for bucket, number in histogram.items() if bucket < 2 * power))
        for power, bound in zip(_POWERS, BOUNDS, strict=True)
    ]
    return [*found, ("+Inf", sum(histogram.values()))]


async def _unless_missing(call: Awaitable[T], default: T) -> T:
    """Return the answer of an operation that a storage of a third party may lack."""
    try:
        return await call
    except ConfigurationError:
        return default
