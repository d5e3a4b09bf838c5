"""Memory storages and workers with one planted bug each; the schedules must find every bug."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock
from uuid import UUID

from msgspec import structs

from jobq_core.memory import MemoryQueueStorage, adding, claiming, control, maintenance, settle_and_claim
from jobq_core.memory.rows import Row, WorkerRow
from jobq_core.memory.store import Store
from jobq_core.memory.workers import MemoryHeartbeat
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    Added,
    Change,
    Claim,
    ClaimedJob,
    EndedJob,
    Follow,
    Heartbeat,
    NewJob,
    Promotion,
    Rescue,
    SettleAndClaimResult,
    Settlement,
)
from jobq_worker.liveness.registration import Registration

StorageType = Callable[..., MemoryQueueStorage]


@contextmanager
def sound() -> Generator[StorageType, None, None]:
    """The memory storage without a bug."""
    yield MemoryQueueStorage


@contextmanager
def settles_without_the_lease() -> Generator[StorageType, None, None]:
    """A settlement is applied to the job's current lease, whichever lease it names."""
    real = settle_and_claim._settle_one

    def settle(store: Store, settlement: Settlement, when: int | None, children: Any, now: int) -> JobState | None:
        row = store.jobs.get(settlement.id)
        if row is not None and row.state is JobState.PROCESSING and row.lease is not None:
            named = Settlement(
                settlement.id, row.lease, settlement.ending, settlement.result, settlement.error, settlement.when
            )
            return real(store, named, when, children, now)
        return real(store, settlement, when, children, now)

    with mock.patch.object(settle_and_claim, "_settle_one", settle):
        yield MemoryQueueStorage


@contextmanager
def claims_twice() -> Generator[StorageType, None, None]:
    """A claim may return a job that another worker runs, as without a row lock."""
    real = settle_and_claim.Picking
    turns = iter(range(1_000_000_000))

    def pick(store: Store, worker: UUID, wish: Claim) -> Any:
        picking = real(store, worker, wish)
        if not picking.claimed and wish.limit and next(turns) % 40 == 0:
            other = next((row for row in store.running.values() if row.worker != worker), None)
            if other is not None:
                picking.claimed.append(claiming.claim_one(store, worker, other, store.clock.now()))
        return picking

    with mock.patch.object(settle_and_claim, "Picking", pick):
        yield MemoryQueueStorage


class RescuesTheLiving(MemoryQueueStorage):
    async def rescue(self) -> Rescue:
        now = self._store.clock.steady()
        for worker in self._store.workers.values():
            if worker.lost_at - worker.lost_after // 2 <= now:
                worker.lost_at = now
        return await super().rescue()


@contextmanager
def rescues_the_living() -> Generator[StorageType, None, None]:
    """A worker counts as lost after half of its `lost_after`."""
    yield RescuesTheLiving


class RemembersTheLost(MemoryQueueStorage):
    def __init__(self, name: str | None = None, *, clock: Callable[[], float] | None = None) -> None:
        super().__init__(name, clock=clock)
        self.lost: dict[UUID, WorkerRow] = {}

    async def rescue(self) -> Rescue:
        before = dict(self._store.workers)
        found = await super().rescue()
        lost = [each.worker for each in found.workers if each.worker in before]
        self.lost.update({worker: before[worker] for worker in lost})
        return found

    def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
        return RevivingHeartbeat(self._store, worker.id, self.lost)


class RevivingHeartbeat(MemoryHeartbeat):
    def __init__(self, store: Store, worker: UUID, lost: dict[UUID, WorkerRow]) -> None:
        super().__init__(store, worker)
        self._lost = lost

    def beat(self, stats: WorkerStats) -> bool:
        row = self._lost.pop(self._worker, None)
        if row is not None:
            self._store.workers[self._worker] = row
        return super().beat(stats)


@contextmanager
def revives_the_lost() -> Generator[StorageType, None, None]:
    """A beat of a lost worker registers it again."""
    yield RemembersTheLost


@contextmanager
def lets_the_lost_claim() -> Generator[StorageType, None, None]:
    """A worker may claim even when it is lost."""
    with mock.patch.object(Store, "is_alive", return_value=True):
        yield MemoryQueueStorage


class ForgetsToRescue(MemoryQueueStorage):
    async def rescue(self) -> Rescue:
        now = self._store.clock.steady()
        for key, worker in list(self._store.workers.items()):
            if worker.lost_at <= now:
                del self._store.workers[key]
        return Rescue([])


@contextmanager
def forgets_to_rescue() -> Generator[StorageType, None, None]:
    """Lost workers are removed, but their jobs are not rescued."""
    yield ForgetsToRescue


@contextmanager
def adds_again() -> Generator[StorageType, None, None]:
    """A repeated add makes a second job."""
    real = adding.add_one

    def add(store: Store, job: NewJob, *args: Any) -> Added:
        if job.id in store.jobs:
            store.jobs[UUID(int=job.id.int ^ 1)] = store.jobs.pop(job.id)
        return real(store, job, *args)

    with mock.patch.object(adding, "add_one", add):
        yield MemoryQueueStorage


@contextmanager
def counts_no_lost_run() -> Generator[StorageType, None, None]:
    """A rescue does not count the attempt, so a job that kills its workers runs forever."""
    real = maintenance._take_back

    def take_back(store: Store, row: Row, worker: WorkerRow | None, now: int) -> Any:
        row.attempt -= 1
        return real(store, row, worker, now)

    with mock.patch.object(maintenance, "_take_back", take_back):
        yield MemoryQueueStorage


@contextmanager
def counts_jobs_that_never_ran() -> Generator[StorageType, None, None]:
    """A rescue counts an attempt for each job of a lost worker, even if the job never ran."""
    real = maintenance._take_back

    def take_back(store: Store, row: Row, worker: WorkerRow | None, now: int) -> Any:
        row.start_marked = True
        return real(store, row, worker, now)

    with mock.patch.object(maintenance, "_take_back", take_back):
        yield MemoryQueueStorage


@contextmanager
def starts_without_a_mark() -> Generator[StorageType, None, None]:
    """Workers start claimed jobs without marking them as started."""
    with mock.patch.object(ClaimedJob, "needs_start_mark", False):
        yield MemoryQueueStorage


class MarksEndedLeases(MemoryQueueStorage):
    async def mark_started(self, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[bool]:
        await super().mark_started(worker, leases)
        return [True] * len(leases)


@contextmanager
def marks_ended_leases() -> Generator[StorageType, None, None]:
    """`mark_started` allows every start, even under a lease that has ended."""
    yield MarksEndedLeases


@contextmanager
def doubles_keys() -> Generator[StorageType, None, None]:
    """A unique key is free as soon as its job is claimed."""
    real = claiming.claim_one

    def claim(store: Store, worker: UUID, row: Row, now: int) -> ClaimedJob:
        if row.job.unique_key is not None:
            row.queue.keys.pop(row.job.unique_key, None)
        return real(store, worker, row, now)

    with mock.patch.object(claiming, "claim_one", claim):
        yield MemoryQueueStorage


@contextmanager
def aborts_by_force() -> Generator[StorageType, None, None]:
    """An abort ends a running job at once, while its handler runs on."""
    real = control._abort_one

    def abort(store: Store, row: Row, now: int) -> Change:
        if row.state is not JobState.PROCESSING:
            return real(store, row, now)
        before = row.state
        store.move(row, JobState.ABORTED, now, "aborted")
        return Change(row.job.id, before, row.state)

    with mock.patch.object(control, "_abort_one", abort):
        yield MemoryQueueStorage


@contextmanager
def forgets_settlements() -> Generator[StorageType, None, None]:
    """A settlement repeated after a lost answer makes the job pending again."""
    real = settle_and_claim._settle_one

    def settle(store: Store, settlement: Settlement, when: int | None, children: Any, now: int) -> JobState | None:
        row = store.jobs.get(settlement.id)
        if row is not None and row.state is JobState.COMPLETED and row.lease == settlement.lease:
            store.move(row, JobState.PENDING, now)
            return None
        return real(store, settlement, when, children, now)

    with mock.patch.object(settle_and_claim, "_settle_one", settle):
        yield MemoryQueueStorage


class LosesDueJobs(MemoryQueueStorage):
    def __init__(self, name: str | None = None, *, clock: Callable[[], float] | None = None) -> None:
        super().__init__(name, clock=clock)
        self._turns = itertools.count()

    async def promote(self, limit: int = 1000) -> Promotion:
        first = self._store.due.first()
        if first is not None and first[0] <= self._store.clock.now() and next(self._turns) % 10 == 0:
            heapq.heappop(self._store.due._heap)
        return await super().promote(limit)


@contextmanager
def loses_due_jobs() -> Generator[StorageType, None, None]:
    """Concurrent promotions sometimes leave a due job to each other: neither promotes it."""
    yield LosesDueJobs


@contextmanager
def runs_on_when_cut_off() -> Generator[StorageType, None, None]:
    """A worker that could not renew its leases in time keeps its jobs running."""
    with mock.patch.object(Registration, "_expired", Registration._cancel_alarm):
        yield MemoryQueueStorage


@contextmanager
def forgets_the_abort() -> Generator[StorageType, None, None]:
    """A run that fails for good leaves its job FAILED, though `abort` was answered True before."""
    real = settle_and_claim.state_after

    def after(ending: Ending, **told: Any) -> JobState:
        return JobState.FAILED if ending is Ending.FAIL else real(ending, **told)

    with mock.patch.object(settle_and_claim, "state_after", after):
        yield MemoryQueueStorage


@contextmanager
def disables_what_was_enabled() -> Generator[StorageType, None, None]:
    """A run that stopped for `disable` leaves its job DISABLED, though `enable` or `abort` was answered True since."""
    real = settle_and_claim.state_after

    def after(ending: Ending, **told: Any) -> JobState:
        return JobState.DISABLED if ending is Ending.DISABLE else real(ending, **told)

    with mock.patch.object(settle_and_claim, "state_after", after):
        yield MemoryQueueStorage


@contextmanager
def forgets_the_last_report() -> Generator[StorageType, None, None]:
    """A settlement leaves out the progress that its run reported last."""
    real = settle_and_claim._settle_one

    def settle(store: Store, settlement: Settlement, *args: Any) -> JobState | None:
        return real(store, structs.replace(settlement, progress=None), *args)

    with mock.patch.object(settle_and_claim, "_settle_one", settle):
        yield MemoryQueueStorage


@contextmanager
def returns_to_the_end() -> Generator[StorageType, None, None]:
    """A job that was handed back stands behind all those that were added meanwhile."""
    real = Store.enter

    def enter(store: Store, row: Row, state: JobState, now: int, reason: str | None = None, **_: Any) -> None:
        real(store, row, state, now, reason)

    with mock.patch.object(Store, "enter", enter):
        yield MemoryQueueStorage


class FollowsAgain(MemoryQueueStorage):
    async def resolve(self, limit: int = 1000, follow: Follow | None = None) -> list[EndedJob]:
        kept = list(self._store.ended)
        ended = await super().resolve(limit, follow)
        if self._store.clock.now() % 2:
            self._store.ended.extend(kept)
        return ended


@contextmanager
def follows_again() -> Generator[StorageType, None, None]:
    """One time of two, what is resolved is not forgotten, as if it were in a transaction of its own."""
    yield FollowsAgain


class FollowsNothing(MemoryQueueStorage):
    async def resolve(self, limit: int = 1000, follow: Follow | None = None) -> list[EndedJob]:
        return await super().resolve(limit)


@contextmanager
def forgets_to_follow() -> Generator[StorageType, None, None]:
    """Ends are forgotten before anything follows them."""
    yield FollowsNothing


class ClaimsRarely(MemoryQueueStorage):
    async def settle_and_claim(
        self, worker: UUID, settlements: Sequence[Settlement] = (), claim: Claim | None = None
    ) -> SettleAndClaimResult:
        busy = self._store.clock.now() // 1_000_000 % 8
        return await super().settle_and_claim(worker, settlements, None if busy else claim)


@contextmanager
def claims_rarely() -> Generator[StorageType, None, None]:
    """Seven seconds of eight, a claim gets nothing."""
    yield ClaimsRarely


MUTANTS: dict[str | None, Callable[[], AbstractContextManager[StorageType]]] = {
    None: sound,
    **{
        each.__name__: each
        for each in (
            settles_without_the_lease,
            claims_twice,
            rescues_the_living,
            revives_the_lost,
            lets_the_lost_claim,
            forgets_to_rescue,
            adds_again,
            counts_no_lost_run,
            counts_jobs_that_never_ran,
            starts_without_a_mark,
            marks_ended_leases,
            doubles_keys,
            aborts_by_force,
            forgets_settlements,
            loses_due_jobs,
            runs_on_when_cut_off,
            forgets_the_abort,
            disables_what_was_enabled,
            forgets_the_last_report,
            returns_to_the_end,
            claims_rarely,
            follows_again,
            forgets_to_follow,
        )
    },
}
