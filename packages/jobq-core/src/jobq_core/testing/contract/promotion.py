"""Promotion: jobs whose time has come."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import (
    ERROR,
    add_job,
    claim,
    claim_one,
    job_in,
    new_job,
    settle,
    state_of,
)

S = JobState


class PromotionContract(ContractBase):
    """A job that waits for a time becomes PENDING at that time."""

    async def test_due_jobs_become_pending_in_the_order_of_their_time(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = {delay: await add_job(storage, run_at=float(delay)) for delay in (20, 5, 15, 10)}
        await add_job(storage, run_at=500.0)
        await self.advance(storage, 21)
        promotion = await other.promote()
        assert promotion.promoted == 4
        assert promotion.next_in is not None
        assert 420 < promotion.next_in <= 479
        assert [job.id for job in await claim(storage, worker)] == [jobs[delay] for delay in (5, 10, 15, 20)]
        assert (await storage.promote()).promoted == 0

    async def test_jobs_due_at_the_same_moment_are_claimed_in_the_order_of_adding(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        moment = await storage.now() + timedelta(seconds=10)
        ids = sorted((new_id() for _ in range(30)), reverse=True)
        await storage.add([new_job(id=job, run_at=moment) for job in ids[:20]])
        for job in ids[20:]:
            await add_job(storage, id=job, run_at=moment)
        await self.advance(storage, 11)
        await storage.promote()
        assert [job.id for job in await claim(storage, worker)] == ids

    async def test_nothing_is_promoted_before_its_time(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage, run_at=600.0)
        await self.advance(storage, 500)
        promotion = await storage.promote()
        assert promotion.promoted == 0
        assert promotion.next_in is not None
        assert 40 < promotion.next_in <= 100
        assert await state_of(storage, job) is S.SCHEDULED
        await self.advance(storage, 101)
        assert (await storage.promote()).promoted == 1

    async def test_without_waiting_jobs_there_is_no_next_time(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        promotion = await storage.promote()
        assert (promotion.promoted, promotion.next_in) == (0, None)
        for state in (S.DISABLED, S.PROCESSING, S.COMPLETED, S.PENDING):
            await job_in(storage, worker, state)
        assert (await storage.promote()).next_in is None
        job = await add_job(storage, run_at=60.0)
        assert (await storage.promote()).next_in is not None
        await storage.abort([job])
        assert (await storage.promote()).next_in is None

    async def test_the_next_job_may_have_been_deleted_or_disabled_or_freed(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        first, second, third = [await add_job(storage, run_at=delay) for delay in (100.0, 200.0, 300.0)]
        await job_in(storage, worker, S.BLOCKED, kind="rare")
        await storage.delete([first])
        await storage.disable([second])
        next_in = (await storage.promote()).next_in
        assert next_in is not None
        assert 240 < next_in <= 300
        await storage.abort([third])
        next_in = (await storage.promote()).next_in
        assert next_in is not None
        assert 3500 < next_in <= 3600
        await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=1, kinds=(("rare", "v"),)))
        assert (await storage.promote()).next_in is None

    async def test_no_more_than_the_limit_is_promoted_at_once(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = [await add_job(storage, run_at=5.0 + n) for n in range(5)]
        await self.advance(storage, 20)
        assert (await storage.promote(limit=2)).promoted == 2
        assert [job.id for job in await claim(storage, worker)] == jobs[:2]
        assert (await storage.promote(limit=2)).promoted == 2
        last = await storage.promote(limit=2)
        assert (last.promoted, last.next_in) == (1, None)
        assert [job.id for job in await claim(storage, worker)] == jobs[2:]

    async def test_blocked_jobs_whose_time_has_come_are_promoted(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await job_in(storage, worker, S.BLOCKED)
        await self.advance(storage, 3601)
        assert (await storage.promote()).promoted == 1
        assert await state_of(storage, job) is S.PENDING

    async def test_a_retry_comes_due_after_its_backoff(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, error=ERROR, when=10.0)
        assert (await storage.promote()).promoted == 0
        await self.advance(storage, 11)
        assert (await storage.promote()).promoted == 1
        claimed = await claim_one(storage, worker)
        assert (claimed.id, claimed.attempt) == (job, 2)

    async def test_a_disabled_job_stays_when_its_time_comes(self, storage: QueueStorage) -> None:
        job = await add_job(storage, run_at=60.0)
        await storage.disable([job])
        await self.advance(storage, 61)
        promotion = await storage.promote()
        assert (promotion.promoted, promotion.next_in) == (0, None)
        assert await state_of(storage, job) is S.DISABLED

    async def test_two_that_promote_at_once_promote_each_job_once(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for _ in range(5):
            jobs = [new_job(run_at=10.0) for _ in range(40)]
            await storage.add(jobs)
            await self.advance(storage, 11)
            await storage.register(worker)
            promotions = await asyncio.gather(*((storage, other)[n % 2].promote() for n in range(4)))
            assert sum(promotion.promoted for promotion in promotions) == 40
            claimed = await claim(storage, worker)
            assert sorted(job.id for job in claimed) == sorted(job.id for job in jobs)

    async def test_more_than_a_thousand_jobs_are_promoted_at_once(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await storage.add([new_job(run_at=10.0) for _ in range(1_500)])
        await self.advance(storage, 11)
        first = await storage.promote()
        assert first.promoted == 1_000
        assert first.next_in == 0 or first.next_in is None or first.next_in < 1
        assert (await storage.promote(limit=5_000)).promoted == 500
        assert len(await claim(storage, worker, 2_000)) == 1_500
