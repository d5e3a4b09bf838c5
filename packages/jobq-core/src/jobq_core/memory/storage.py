"""`MemoryQueueStorage`: the contract over data that lives in this process."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, Literal, Self
from uuid import UUID

from jobq_core.encoding import is_unicode
from jobq_core.errors import ClosedError, ConfigurationError
from jobq_core.memory import control, maintenance, reading, settle_and_claim
from jobq_core.memory.notifier import MemorySubscription
from jobq_core.memory.rows import copy_stats
from jobq_core.memory.store import Store
from jobq_core.records import JobRecord, WorkerInfo, WorkerRecord, WorkerStats
from jobq_core.reprs import short_repr
from jobq_core.states import JobState
from jobq_core.storage import (
    PROGRESS_TOPIC,
    Added,
    Change,
    Claim,
    ClaimedJob,
    Heartbeat,
    JobFilter,
    JobStatus,
    Leadership,
    LeaseStatus,
    LostWorker,
    NewJob,
    Page,
    ProgressReport,
    Promotion,
    QueueStorage,
    Retention,
    SettleAndClaimResult,
    Settlement,
)
from jobq_core.timestamps import to_datetime

_named: dict[str, Store] = {}
_naming = threading.Lock()


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or not is_unicode(name):
        raise ConfigurationError(f"the name of a memory storage must be text, not {short_repr(name)}")
    return name


class MemoryQueueStorage(QueueStorage):
    """Jobs in memory, gone when the process ends.

    name: objects of one name share their jobs, across threads and event loops, for as long as the process lives
        (default: none, the jobs are this object's alone).
    clock: returns seconds since 1970, and leases go by it too (default: time.time, and time.monotonic for leases); the
        one given first for a name holds.
    """

    schemes: ClassVar[tuple[str, ...]] = ("memory",)

    def __init__(self, name: str | None = None, *, clock: Callable[[], float] | None = None) -> None:
        self._name = None if name is None else _check_name(name)
        if name is None:
            self._store = Store(clock)
        else:
            with _naming:
                self._store = _named.setdefault(name, Store(clock))
            if clock not in (None, self._store.clock):
                raise ConfigurationError(f"memory storage {name!r} runs by another clock already")
        self._open = False
        self._ears: set[MemorySubscription] = set()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Make a storage from `memory://`, with jobs of its own, or `memory://name`, which shares that name's."""
        match = re.fullmatch(r"memory://([^/?#@]*)", url)
        if match is None:
            # Not repeated: who meant another storage may have written a password.
            raise ConfigurationError(
                "the URL of a memory storage is memory:// or memory://name, with nothing else in it"
            )
        return cls(match[1] or None)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"memory://{self._name or ''}"

    @contextmanager
    def _transaction(self) -> Generator[Store, None, None]:
        """Hold the data alone, and ring when it is free again."""
        store = self._store
        with store.lock:
            if not self._open:
                raise ClosedError("the memory storage is not open: use it inside `async with`, or call open() first")
            try:
                yield store
            finally:
                rings, store.rings = store.rings, set()
        if rings:
            store.bell.ring(rings)

    # Life

    async def open(self) -> None:
        """Let operations in."""
        self._open = True

    async def close(self) -> None:
        """End all subscriptions; the jobs stay."""
        # Whoever holds the lock now is finished before operations are refused.
        with self._store.lock:
            self._open = False
        for ear in list(self._ears):
            ear.shut()

    async def migrate(self, phase: Literal["pre", "post", "all"] = "all") -> list[str]:
        """Do nothing: there is no schema."""
        return []

    def migration_sql(self) -> str:
        """Return nothing: there is no SQL."""
        return ""

    async def now(self) -> datetime:
        """Return the storage's clock."""
        with self._transaction() as store:
            return to_datetime(store.now())

    # Submitting, and the hot path

    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        """See `QueueStorage.add`; there is no connection that memory could use."""
        if connection is not None:
            raise ConfigurationError(f"memory storage cannot add within a transaction of {connection!r}")
        with self._transaction() as store:
            return settle_and_claim.add(store, jobs)

    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        """See `QueueStorage.settle_and_claim`."""
        with self._transaction() as store:
            settled = settle_and_claim.settle(store, settlements)
            alive = maintenance.is_alive(store, worker)
            claimed = settle_and_claim.claim(store, worker, claim) if alive and claim is not None else []
            return SettleAndClaimResult(settled, claimed, alive)

    async def check_leases(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
        """See `QueueStorage.check_leases`."""
        with self._transaction() as store:
            holds: list[LeaseStatus] = []
            for job_id, lease in leases:
                row = store.running.get(lease)
                stands = row is not None and row.asked.id == job_id and row.worker == worker
                holds.append(LeaseStatus(True, row.request) if row is not None and stands else LeaseStatus(False))
            return holds

    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        """See `QueueStorage.mark_started`."""
        with self._transaction() as store:
            return [settle_and_claim.mark_started(store, worker, job_id, lease) for job_id, lease in leases]

    async def recover_claims(self, worker: UUID, leases: Collection[int]) -> list[ClaimedJob]:
        """See `QueueStorage.recover_claims`."""
        with self._transaction() as store:
            now = store.now()
            known = frozenset(leases)
            return [
                settle_and_claim.claimed_job(row, lease, now)
                for lease, row in store.running.items()
                if row.worker == worker and lease not in known
            ]

    async def progress(self, worker: UUID, reports: Sequence[ProgressReport]) -> list[bool]:
        """See `QueueStorage.progress`."""
        with self._transaction() as store:
            stored: list[bool] = []
            for report in reports:
                row = store.running.get(report.lease)
                stands = row is not None and row.asked.id == report.id
                if row is not None and stands:
                    row.set_progress(report.progress)
                    store.rings.add(PROGRESS_TOPIC)
                stored.append(stands)
            return stored

    # Control

    async def abort(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.abort`."""
        with self._transaction() as store:
            return control.change(store, ids, control.abort_one)

    async def abort_run(self, run_id: str) -> list[Change]:
        """See `QueueStorage.abort_run`."""
        with self._transaction() as store:
            return control.abort_run(store, run_id)

    async def retry(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.retry`."""
        with self._transaction() as store:
            return control.change(store, ids, control.retry_one)

    async def disable(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.disable`."""
        with self._transaction() as store:
            return control.change(store, ids, control.disable_one)

    async def enable(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.enable`."""
        with self._transaction() as store:
            return control.change(store, ids, control.enable_one)

    async def delete(self, ids: Sequence[UUID]) -> list[Change]:
        """See `QueueStorage.delete`."""
        with self._transaction() as store:
            return control.change(store, ids, control.delete_one)

    async def clear(self, queue: str) -> int:
        """See `QueueStorage.clear`."""
        with self._transaction() as store:
            return control.clear(store, queue)

    # Reading

    async def get(self, ids: Sequence[UUID]) -> list[JobRecord | None]:
        """See `QueueStorage.get`."""
        with self._transaction() as store:
            return [None if row is None else row.record() for row in map(store.jobs.get, ids)]

    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        """See `QueueStorage.find`."""
        with self._transaction() as store:
            return reading.find(store, filter, after, limit)

    async def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        """See `QueueStorage.counts`."""
        with self._transaction() as store:
            return reading.counts(store, queue)

    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        """See `QueueStorage.get_status`."""
        with self._transaction() as store:
            return [None if row is None else row.status() for row in map(store.jobs.get, ids)]

    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        """See `QueueStorage.output_for`."""
        with self._transaction() as store:
            return reading.output_for(store, queue, kind, fingerprint)

    # Workers

    async def register(self, worker: WorkerInfo) -> None:
        """See `QueueStorage.register`."""
        with self._transaction() as store:
            maintenance.register(store, worker)

    def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
        """See `QueueStorage.heartbeat`."""
        with self._transaction() as store:
            return MemoryHeartbeat(store, worker.id)

    async def deregister(self, worker: UUID) -> None:
        """See `QueueStorage.deregister`."""
        with self._transaction() as store:
            store.workers.pop(worker, None)

    async def workers(self) -> list[WorkerRecord]:
        """See `QueueStorage.workers`."""
        with self._transaction() as store:
            return [
                WorkerRecord(
                    info=row.info,
                    started_at=to_datetime(row.started_at),
                    beat_at=to_datetime(row.beat_at),
                    expires_at=to_datetime(row.beat_at + row.lost_after),
                    stats=copy_stats(row.stats),
                )
                for row in store.workers.values()
            ]

    # Maintenance

    async def lead(self, worker: UUID, term: float) -> Leadership:
        """See `QueueStorage.lead`."""
        with self._transaction() as store:
            return maintenance.lead(store, worker, term)

    async def resign(self, worker: UUID) -> None:
        """See `QueueStorage.resign`."""
        with self._transaction() as store:
            maintenance.resign(store, worker)

    async def promote(self, limit: int = 1000) -> Promotion:
        """See `QueueStorage.promote`."""
        with self._transaction() as store:
            return maintenance.promote(store, limit)

    async def rescue(self) -> list[LostWorker]:
        """See `QueueStorage.rescue`."""
        with self._transaction() as store:
            return maintenance.rescue(store)

    async def set_retention(self, retention: Mapping[str, Retention]) -> None:
        """See `QueueStorage.set_retention`."""
        with self._transaction() as store:
            maintenance.set_retention(store, retention)

    async def prune(self, limit: int = 10_000) -> int:
        """See `QueueStorage.prune`."""
        with self._transaction() as store:
            return maintenance.prune(store, limit)

    # Doorbell

    def subscribe(self, topics: Iterable[str]) -> MemorySubscription:
        """See `QueueStorage.subscribe`."""
        with self._transaction() as store:
            return MemorySubscription(store.bell, topics, self._ears)


class MemoryHeartbeat(Heartbeat):
    """A heartbeat that beats from any thread, and needs no connection."""

    def __init__(self, store: Store, worker: UUID) -> None:
        self._store = store
        self._worker = worker

    def beat(self, stats: WorkerStats) -> bool:
        """See `Heartbeat.beat`."""
        with self._store.lock:
            return maintenance.beat(self._store, self._worker, stats)

    def close(self) -> None:
        """Nothing to give up."""
