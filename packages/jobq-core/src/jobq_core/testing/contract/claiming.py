"""Claiming: in which order, by which criteria, and for which workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, QueueStorage, SettleAndClaimResult, Settlement
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import (
    ERROR,
    add_job,
    claim,
    claim_one,
    job_in,
    new_job,
    read,
    register_worker,
    settle,
    state_of,
)

Back = Callable[["ClaimingContract", QueueStorage, WorkerInfo], Awaitable[UUID]]


async def _promoted(suite: ClaimingContract, storage: QueueStorage, worker: WorkerInfo) -> UUID:
    job = await add_job(storage, run_at=60.0)
    await _line(storage)
    await suite.advance(storage, 61)
    await storage.promote()
    return job


async def _retried_by_its_worker(suite: ClaimingContract, storage: QueueStorage, worker: WorkerInfo) -> UUID:
    job = await add_job(storage)
    claimed = await claim_one(storage, worker)
    await _line(storage)
    await settle(storage, worker, claimed, Ending.RETRY, error=ERROR)
    return job


async def _retried_with_backoff(suite: ClaimingContract, storage: QueueStorage, worker: WorkerInfo) -> UUID:
    job = await add_job(storage)
    await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, error=ERROR, when=5.0)
    await _line(storage)
    await suite.advance(storage, 6)
    await storage.promote()
    return job


async def _retried_by_hand(suite: ClaimingContract, storage: QueueStorage, worker: WorkerInfo) -> UUID:
    job = await job_in(storage, worker, JobState.FAILED)
    await _line(storage)
    await storage.retry([job])
    return job


async def _enabled(suite: ClaimingContract, storage: QueueStorage, worker: WorkerInfo) -> UUID:
    job = await job_in(storage, worker, JobState.DISABLED)
    await _line(storage)
    await storage.enable([job])
    return job


async def _rescued(suite: ClaimingContract, storage: QueueStorage, worker: WorkerInfo) -> UUID:
    lost = await register_worker(storage, lost_after=5.0)
    job = await add_job(storage)
    await claim_one(storage, lost)
    await _line(storage)
    await suite.advance(storage, 6)
    await storage.rescue()
    return job


WAYS_BACK: dict[str, Back] = {
    "promoted": _promoted,
    "retried by its worker": _retried_by_its_worker,
    "retried with backoff": _retried_with_backoff,
    "retried by hand": _retried_by_hand,
    "enabled": _enabled,
    "rescued": _rescued,
}
"""How an older job becomes PENDING after younger ones."""


class ClaimingContract(ContractBase):
    """The first jobs of the line are claimed, each by one worker."""

    # Order

    async def test_higher_priorities_are_claimed_first(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = {priority: await add_job(storage, priority=priority) for priority in (0, -100, 5, 100, -1, 4)}
        assert [job.id for job in await claim(storage, worker)] == [jobs[p] for p in (100, 5, 4, 0, -1, -100)]

    async def test_equal_priorities_are_claimed_in_the_order_of_adding(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        # The ids are in reverse order: jobs are claimed in the order of adding, not of their ids.
        ids = sorted((new_id() for _ in range(30)), reverse=True)
        await storage.add([new_job(id=job) for job in ids[:10]])
        for n, job in enumerate(ids[10:20]):
            await (storage, other)[n % 2].add([new_job(id=job)])
        await other.add([new_job(id=job) for job in ids[20:]])
        assert [job.id for job in await claim(storage, worker)] == ids

    async def test_one_batch_of_mixed_priorities_keeps_its_order_within_each(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [new_job(priority=priority) for priority in (0, 1, 0, 1, 2, 0)]
        await storage.add(jobs)
        claimed = [job.id for _ in range(6) for job in await claim(storage, worker, 1)]
        assert claimed == [jobs[n].id for n in (4, 1, 3, 0, 2, 5)]

    @pytest.mark.parametrize("come_back", WAYS_BACK.values(), ids=WAYS_BACK.keys())
    async def test_a_job_that_becomes_pending_again_stands_at_the_end_of_the_line(
        self, storage: QueueStorage, worker: WorkerInfo, come_back: Back
    ) -> None:
        job = await come_back(self, storage, worker)
        late = await add_job(storage)
        await storage.register(worker)
        claimed = [each.id for each in await claim(storage, worker)]
        assert claimed[-2:] == [job, late]
        assert len(claimed) == 5

    async def test_priority_counts_more_than_the_time_of_becoming_pending(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        soon = await add_job(storage, run_at=10.0, priority=1)
        now = await add_job(storage, priority=0)
        await self.advance(storage, 11)
        await storage.promote()
        assert [job.id for job in await claim(storage, worker)] == [soon, now]

    async def test_the_first_queue_named_is_emptied_before_the_second(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, queues=("b", "a"))
        a = [await add_job(storage, queue="a", priority=9) for _ in range(3)]
        b = [await add_job(storage, queue="b", priority=-9) for _ in range(3)]
        await add_job(storage, queue="c")
        assert [job.id for job in await claim(storage, worker, 4)] == [*b, a[0]]
        assert [job.id for job in await claim(storage, worker, 4, "c", "b", "a")][1:] == a[1:]

    # Criteria

    async def test_a_claim_takes_no_more_than_its_limit(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = [await add_job(storage) for _ in range(5)]
        assert await claim(storage, worker, 0) == []
        assert [job.id for job in await claim(storage, worker, 2)] == jobs[:2]
        assert [job.id for job in await claim(storage, worker, 9)] == jobs[2:]
        assert await claim(storage, worker, 9) == []

    async def test_only_pending_jobs_are_claimed(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        for state in JobState:
            if state is not JobState.PENDING:
                await job_in(storage, worker, state, priority=9)
        assert await claim(storage, worker) == []

    async def test_a_claim_of_an_unknown_queue_finds_nothing(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await add_job(storage)
        assert await claim(storage, worker, 10, "nowhere") == []

    async def test_a_claim_ignores_kind_and_deadline(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        strange = await add_job(storage, kind="never seen")
        late = await add_job(storage, deadline=60.0)
        await self.advance(storage, 61)
        await storage.register(worker)
        first, second = await claim(storage, worker)
        assert (first.id, first.kind, first.deadline_in) == (strange, "never seen", None)
        assert second.id == late
        assert second.deadline_in is not None
        assert -60 < second.deadline_in <= -1

    async def test_a_claimed_job_has_all_that_its_run_needs(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = new_job(
            kind="k",
            arguments=b'{"n":1}',
            priority=3,
            deadline=600.0,
            timeout=1.5,
            max_attempts=4,
            backoff=b'{"base":2}',
            run_id="r",
            tags=("x", "y"),
            unique_key="u",
            fingerprint=bytes(16),
        )
        await storage.add([job])
        claimed = await claim_one(storage, worker)
        assert (claimed.id, claimed.queue, claimed.kind, claimed.arguments) == (job.id, "default", "k", b'{"n":1}')
        assert (claimed.attempt, claimed.max_attempts, claimed.priority, claimed.timeout) == (1, 4, 3, 1.5)
        assert (claimed.backoff, claimed.run_id, claimed.tags) == (b'{"base":2}', "r", ("x", "y"))
        assert claimed.deadline_in is not None
        assert 540 < claimed.deadline_in <= 600

    async def test_a_claimed_job_without_options_has_the_defaults(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await add_job(storage)
        claimed = await claim_one(storage, worker)
        assert (claimed.priority, claimed.timeout, claimed.deadline_in, claimed.backoff) == (0, None, None, None)
        assert (claimed.run_id, claimed.tags, claimed.max_attempts) == (None, (), 10)

    async def test_a_claim_makes_the_job_processing_and_counts_the_attempt(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        before = await storage.now()
        claimed = await claim_one(storage, worker)
        record = await read(other, job)
        assert (record.state, record.attempt, claimed.attempt) == (JobState.PROCESSING, 1, 1)
        assert (record.worker, record.lease, record.stop_request) == (worker.id, claimed.lease, None)
        assert record.started_at is not None
        assert before <= record.started_at <= await storage.now()
        assert record.finished_at is None

    async def test_each_lease_is_greater_than_all_previous_ones(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        there = await register_worker(other, queues=("there",))
        leases: list[int] = []
        for _ in range(3):
            await storage.add([new_job() for _ in range(4)])
            await other.add([new_job(queue="there") for _ in range(4)])
            for place, who in ((storage, worker), (other, there), (storage, worker), (other, there)):
                batch = await claim(place, who, 2)
                assert all(job.lease > max(leases, default=0) for job in batch)
                leases += [job.lease for job in batch]
            for job in await storage.recover_claims(worker.id, []):
                await settle(storage, worker, job, Ending.RELEASE)
        assert len(set(leases)) == len(leases) == 24

    # Workers

    async def test_a_worker_that_is_not_registered_claims_nothing(self, storage: QueueStorage) -> None:
        job = await add_job(storage)
        assert await storage.settle_and_claim(new_id(), (), Claim.of("default", limit=1)) == SettleAndClaimResult(
            [], [], alive=False
        )
        assert await state_of(storage, job) is JobState.PENDING

    async def test_a_deregistered_worker_claims_nothing(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await add_job(storage)
        await storage.deregister(worker.id)
        assert await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=1)) == SettleAndClaimResult(
            [], [], alive=False
        )

    async def test_an_expired_worker_claims_nothing_while_its_settlements_count(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        job, waiting = await add_job(storage), await add_job(storage)
        claimed = await claim_one(storage, worker)
        await self.advance(storage, worker.lost_after + 1)
        settlement = Settlement(job, claimed.lease, Ending.COMPLETE, b"1")
        result = await other.settle_and_claim(worker.id, [settlement], Claim.of("default", limit=1))
        assert result == SettleAndClaimResult([JobState.COMPLETED], [], alive=False)
        assert await state_of(storage, waiting) is JobState.PENDING

    async def test_a_worker_that_beats_again_in_time_claims_again(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await add_job(storage)
        await self.advance(storage, worker.lost_after + 1)
        heartbeat = storage.heartbeat(worker)
        assert await asyncio.to_thread(heartbeat.beat, WorkerStats())
        await asyncio.to_thread(heartbeat.close)
        await claim_one(storage, worker)

    async def test_one_call_settles_and_claims(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = [await add_job(storage) for _ in range(4)]
        first = await claim(storage, worker, 2)
        settlements = [Settlement(job.id, job.lease, Ending.COMPLETE, b"1") for job in first]
        result = await storage.settle_and_claim(worker.id, settlements, Claim.of("default", limit=2))
        assert result.settled == [JobState.COMPLETED] * 2
        assert result.alive
        assert [job.id for job in result.claimed] == jobs[2:]

    async def test_a_call_without_settlements_and_claim_does_nothing(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        result = await storage.settle_and_claim(worker.id)
        assert (result.settled, result.claimed) == ([], [])

    # Many at once

    async def test_fifteen_claimers_of_five_jobs_get_five_different_ones(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        await self._race(storage, other, claimers=15, jobs=5)

    async def test_ten_claimers_of_one_job_get_it_once(self, storage: QueueStorage, other: QueueStorage) -> None:
        await self._race(storage, other, claimers=10, jobs=1)

    async def _race(self, storage: QueueStorage, other: QueueStorage, *, claimers: int, jobs: int) -> None:
        workers = [await register_worker(storage) for _ in range(claimers)]
        for _ in range(8):
            added = [await add_job(storage) for _ in range(jobs)]
            answers = await asyncio.gather(
                *(claim((storage, other)[n % 2], worker, 1) for n, worker in enumerate(workers))
            )
            claimed = [(worker, job) for worker, batch in zip(workers, answers, strict=True) for job in batch]
            assert sorted(job.id for _, job in claimed) == sorted(added)
            assert len({job.lease for _, job in claimed}) == jobs
            for worker, job in claimed:
                assert (await read(storage, job.id)).worker == worker.id

    async def test_many_workers_drain_a_queue_and_run_each_job_once(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        jobs = [new_job(priority=n % 3) for n in range(300)]
        await storage.add(jobs)
        runs: list[UUID] = []

        async def drain(place: QueueStorage) -> None:
            worker = await register_worker(place)
            settlements: list[Settlement] = []
            while True:
                result = await place.settle_and_claim(worker.id, settlements, Claim.of("default", limit=7))
                assert result.settled == [JobState.COMPLETED] * len(settlements)
                if not result.claimed:
                    return
                runs.extend(job.id for job in result.claimed)
                settlements = [Settlement(job.id, job.lease, Ending.COMPLETE, b"1") for job in result.claimed]

        await asyncio.gather(*(drain(place) for place in (storage, other) * 3))
        # SKIP LOCKED may hide the last jobs, which one worker locks, from another; no job is left over by all of them.
        assert sorted(runs) == sorted(job.id for job in jobs)
        assert (await storage.counts("default"))["default"][JobState.COMPLETED] == 300

    async def test_jobs_added_while_others_claim_are_all_claimed(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        # Adds commit in another order than they begin: a claim that only looks ahead would skip some.
        jobs = [new_job() for _ in range(60)]
        seen: list[UUID] = []

        async def take() -> None:
            async with asyncio.timeout(30):
                while len(seen) < len(jobs):
                    batch = await claim(storage, worker, 3)
                    seen.extend(job.id for job in batch)
                    await asyncio.sleep(0)

        await asyncio.gather(take(), *((storage, other)[n % 2].add([job]) for n, job in enumerate(jobs)))
        assert sorted(seen) == sorted(job.id for job in jobs)


async def _line(storage: QueueStorage) -> None:
    await storage.add([new_job() for _ in range(3)])
