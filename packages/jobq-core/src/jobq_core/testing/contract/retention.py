"""Retention: how long finished jobs are kept, and pruning."""

from __future__ import annotations

import asyncio

import pytest

from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import QueueOptions, QueueStorage, Retention
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import (
    ERROR,
    add_job,
    claim_one,
    job_in,
    new_job,
    read,
    settle,
    state_of,
)

S = JobState
DAY = 86_400.0
NOTHING = Retention(completed=0, failed=0, aborted=0)


class RetentionContract(ContractBase):
    """Finished jobs are pruned when their retention is over."""

    @pytest.mark.parametrize(
        ("state", "seconds"), [(S.COMPLETED, DAY), (S.FAILED, 14 * DAY), (S.ABORTED, DAY)], ids=str
    )
    async def test_a_queue_never_named_keeps_its_jobs_for_the_default_time(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, state: JobState, seconds: float
    ) -> None:
        job = await job_in(storage, worker, state)
        await self.advance(storage, seconds - 100)
        assert await storage.prune() == 0
        assert await state_of(storage, job) is state
        await self.advance(storage, 101)
        assert await other.prune() == 1
        assert await storage.get([job]) == [None]
        assert await storage.prune() == 0

    @pytest.mark.parametrize("state", [S.COMPLETED, S.FAILED, S.ABORTED])
    async def test_each_state_has_a_retention_of_its_own(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, state: JobState
    ) -> None:
        jobs = {each: await job_in(storage, worker, each) for each in (S.COMPLETED, S.FAILED, S.ABORTED)}
        kept = {each.value: 50.0 if each is state else None for each in jobs}
        await other.set_queue("default", QueueOptions(retention=Retention(**kept)))
        await self.advance(storage, 51)
        assert await storage.prune() == 1
        there = {each for each, job in jobs.items() if await state_of(storage, job) is not None}
        assert there == set(jobs) - {state}
        await self.advance(storage, 1_000 * DAY)
        assert await storage.prune() == 0

    @pytest.mark.parametrize("state", [S.COMPLETED, S.FAILED, S.ABORTED])
    async def test_a_retention_of_zero_keeps_nothing(
        self, storage: QueueStorage, worker: WorkerInfo, state: JobState
    ) -> None:
        await storage.set_queue("default", QueueOptions(retention=NOTHING))
        await storage.abort([await add_job(storage)])
        job = await add_job(storage)
        ending = {S.COMPLETED: Ending.COMPLETE, S.FAILED: Ending.FAIL, S.ABORTED: Ending.ABORT}[state]
        assert await settle(storage, worker, await claim_one(storage, worker), ending) is state
        await storage.prune()
        assert await state_of(storage, job) is None
        assert (await storage.counts("default"))["default"] == dict.fromkeys(S, 0)

    async def test_retention_belongs_to_a_queue_and_the_last_call_counts(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        here, there, default = [
            await job_in(storage, worker, S.COMPLETED, queue=queue) for queue in ("here", "there", "default")
        ]
        for queue, kept in (("here", None), ("there", 0), ("here", 100)):
            await other.set_queue(queue, QueueOptions(retention=Retention(completed=kept)), "worker")
        await self.advance(storage, 1)
        assert await storage.prune() == 1
        assert await state_of(storage, there) is None
        await self.advance(storage, 100)
        assert await storage.prune() == 1
        assert await state_of(storage, here) is None
        assert await state_of(storage, default) is S.COMPLETED

    @pytest.mark.parametrize("state", [state for state in JobState if state not in (S.COMPLETED, S.FAILED, S.ABORTED)])
    async def test_unfinished_jobs_are_never_pruned(
        self, storage: QueueStorage, worker: WorkerInfo, state: JobState
    ) -> None:
        await storage.set_queue("default", QueueOptions(retention=NOTHING))
        job = await job_in(storage, worker, state)
        await self.advance(storage, 1_000 * DAY)
        assert await storage.prune() == 0
        assert await state_of(storage, job) is state

    async def test_no_more_than_the_limit_is_pruned_at_once(self, storage: QueueStorage) -> None:
        jobs = [new_job(queue=("a", "b")[n % 2]) for n in range(10)]
        await storage.add(jobs)
        await storage.abort([job.id for job in jobs])
        await self.advance(storage, DAY + 1)
        assert [await storage.prune(limit=4) for _ in range(4)] == [4, 4, 2, 0]
        assert await storage.get([job.id for job in jobs]) == [None] * 10

    async def test_retention_counts_from_the_last_end_of_a_job(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await job_in(storage, worker, S.FAILED)
        await self.advance(storage, 13 * DAY)
        await storage.retry([job])
        await storage.register(worker)
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
        await self.advance(storage, 13 * DAY)
        assert await storage.prune() == 0
        assert len((await read(storage, job)).attempts) == 2
        await self.advance(storage, DAY + 1)
        assert await storage.prune() == 1

    async def test_pruning_removes_the_history(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await job_in(storage, worker, S.FAILED, fingerprint=bytes(16))
        await self.advance(storage, 15 * DAY)
        await storage.prune()
        await add_job(storage, id=job)
        assert (await read(storage, job)).attempts == ()

    async def test_two_that_prune_at_once_remove_each_job_once(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        for _ in range(4):
            jobs = [new_job() for _ in range(50)]
            await storage.add(jobs)
            await storage.abort([job.id for job in jobs])
            await self.advance(storage, DAY + 1)
            pruned = await asyncio.gather(*((storage, other)[n % 2].prune() for n in range(4)))
            assert sum(pruned) == 50

    async def test_more_than_a_thousand_jobs_are_pruned_at_once(self, storage: QueueStorage) -> None:
        jobs = [new_job() for _ in range(1_500)]
        await storage.add(jobs)
        await storage.abort([job.id for job in jobs])
        await self.advance(storage, DAY + 1)
        assert await storage.prune() == 1_500
