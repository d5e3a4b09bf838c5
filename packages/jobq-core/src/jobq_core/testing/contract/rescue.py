"""Rescue: the jobs of lost workers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from jobq_core.errors import WorkerLostError
from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, QueueStorage, RescuedJob, Settlement
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import (
    add_job,
    claim,
    claim_one,
    new_job,
    read,
    register_worker,
    settle,
    settle_all,
    start_one,
    state_of,
)

S = JobState


class RescueContract(ContractBase):
    """The jobs of a lost worker are rescued, once."""

    async def _lost(self, storage: QueueStorage, **options: Any) -> tuple[UUID, WorkerInfo]:
        """Add a job whose worker is lost."""
        worker = await register_worker(storage, name="doomed", lost_after=5.0)
        job = await add_job(storage, **options)
        claimed = await start_one(storage, worker)
        assert claimed.id == job
        return job, worker

    async def test_a_lost_worker_is_removed_and_its_jobs_are_rescued(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        job, lost = await self._lost(storage, kind="k")
        before = await read(storage, job)
        await self.advance(storage, 25)
        [answer] = (await other.rescue()).workers
        assert (answer.worker, answer.name) == (lost.id, "doomed")
        assert 25 <= answer.silent_for < 60
        assert answer.jobs == [RescuedJob(id=job, kind="k", queue="default", attempt=1, state=S.PENDING)]
        assert [record.info for record in await storage.workers()] == [worker]
        record = await read(storage, job)
        assert (record.state, record.attempt, record.error, record.finished_at) == (S.PENDING, 1, None, None)
        [attempt] = record.attempts
        assert attempt.error.type.rpartition(".")[2] == WorkerLostError.__name__
        assert (attempt.number, attempt.lease, attempt.worker) == (1, before.lease, lost.id)
        assert attempt.started_at == before.started_at
        assert attempt.finished_at >= attempt.started_at + timedelta(seconds=25)
        again = await claim_one(storage, worker)
        assert (again.id, again.attempt) == (job, 2)
        assert again.lease > attempt.lease

    async def test_a_rescued_job_whose_attempts_are_spent_fails(self, storage: QueueStorage) -> None:
        job, _ = await self._lost(storage, max_attempts=1)
        await self.advance(storage, 6)
        [lost] = (await storage.rescue()).workers
        assert [rescued.state for rescued in lost.jobs] == [S.FAILED]
        record = await read(storage, job)
        assert record.state is S.FAILED
        assert record.finished_at is not None
        assert record.error == record.attempts[0].error
        [status] = await storage.get_status([job])
        assert status is not None
        assert status.error == record.error

    @pytest.mark.parametrize("max_attempts", [1, 10])
    @pytest.mark.parametrize(("request_", "state"), [("abort", S.ABORTED), ("disable", S.DISABLED)])
    async def test_a_rescued_job_that_was_asked_to_stop_does(
        self, storage: QueueStorage, request_: str, state: JobState, max_attempts: int
    ) -> None:
        job, _ = await self._lost(storage, max_attempts=max_attempts)
        await getattr(storage, request_)([job])
        await self.advance(storage, 6)
        [lost] = (await storage.rescue()).workers
        assert [rescued.state for rescued in lost.jobs] == [state]
        record = await read(storage, job)
        assert (record.state, record.stop_request, len(record.attempts)) == (state, None, 1)
        assert (record.finished_at is not None) is (state is S.ABORTED)

    async def test_a_job_that_kills_its_workers_runs_out_of_attempts(self, storage: QueueStorage) -> None:
        job = await add_job(storage, max_attempts=3)
        for number in (1, 2, 3):
            worker = await register_worker(storage, lost_after=5.0)
            assert (await start_one(storage, worker)).attempt == number
            await self.advance(storage, 6)
            await storage.rescue()
        record = await read(storage, job)
        assert (record.state, record.attempt) == (S.FAILED, 3)
        assert [attempt.number for attempt in record.attempts] == [1, 2, 3]

    async def test_a_last_attempt_whose_run_never_started_is_not_spent(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        once, twice = [await add_job(storage, max_attempts=number) for number in (1, 2)]
        for _ in range(3):
            worker = await register_worker(storage, lost_after=5.0)
            claimed = {job.id: job for job in await claim(storage, worker)}
            assert claimed[once].needs_start_mark
            assert claimed[once].attempt == 1
            await self.advance(storage, 6)
            [lost] = (await other.rescue()).workers
            assert [(job.id, job.state) for job in lost.jobs] == [(once, S.PENDING), (twice, S.PENDING)]
            assert [job.attempt for job in lost.jobs] == [0, 1]
        record = await read(storage, once)
        assert (record.state, record.attempt, record.attempts, record.error) == (S.PENDING, 0, (), None)
        # The first of several attempts counts from its claim on; a later one once its run starts.
        record = await read(storage, twice)
        assert (record.state, record.attempt, len(record.attempts)) == (S.PENDING, 1, 1)
        worker = await register_worker(storage, lost_after=5.0)
        assert [job.attempt for job in [await start_one(storage, worker), await start_one(storage, worker)]] == [1, 2]
        await self.advance(storage, 6)
        [lost] = (await other.rescue()).workers
        assert [(job.attempt, job.state) for job in lost.jobs] == [(1, S.FAILED), (2, S.FAILED)]

    @pytest.mark.parametrize(("request_", "state"), [("abort", S.ABORTED), ("disable", S.DISABLED)])
    async def test_a_rescued_job_whose_run_never_started_stops_without_an_error(
        self, storage: QueueStorage, worker: WorkerInfo, request_: str, state: JobState
    ) -> None:
        lost = await register_worker(storage, lost_after=5.0)
        job = await add_job(storage, max_attempts=1)
        await claim_one(storage, lost)
        await getattr(storage, request_)([job])
        await self.advance(storage, 6)
        [answer] = (await storage.rescue()).workers
        assert [(rescued.state, rescued.attempt) for rescued in answer.jobs] == [(state, 0)]
        record = await read(storage, job)
        assert (record.state, record.attempt, record.attempts, record.error) == (state, 0, (), None)
        await (storage.enable if state is S.DISABLED else storage.retry)([job])
        assert (await start_one(storage, worker)).attempt == 1

    async def test_a_start_marked_under_an_earlier_lease_does_not_count_under_the_next(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, max_attempts=1)
        claimed = await start_one(storage, worker)
        await settle(storage, worker, claimed, Ending.RELEASE)
        await claim_one(storage, worker)
        await storage.deregister(worker.id)
        [lost] = (await storage.rescue()).workers
        assert [(rescued.state, rescued.attempt) for rescued in lost.jobs] == [(S.PENDING, 0)]
        assert (await read(storage, job)).attempts == ()

    async def test_a_refused_start_mark_records_nothing(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage, max_attempts=1)
        first = await claim_one(storage, worker)
        await settle(storage, worker, first, Ending.RELEASE)
        present = await claim_one(storage, worker)
        stranger = await register_worker(storage)
        # Too late, under the previous lease; and by a worker that does not hold the job.
        assert await storage.mark_started(worker.id, [(job, first.lease)]) == [False]
        assert await storage.mark_started(stranger.id, [(job, present.lease)]) == [False]
        await storage.deregister(worker.id)
        [lost] = (await storage.rescue()).workers
        assert [(rescued.state, rescued.attempt) for rescued in lost.jobs] == [(S.PENDING, 0)]
        assert (await read(storage, job)).attempts == ()

    async def test_a_lost_worker_without_jobs_is_reported_once(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await self.advance(storage, worker.lost_after + 1)
        [lost] = (await storage.rescue()).workers
        assert (lost.worker, lost.name, lost.jobs) == (worker.id, worker.name, [])
        assert (await storage.rescue()).workers == []

    async def test_the_jobs_of_a_worker_that_is_alive_are_left_alone(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await claim_one(storage, worker)
        await self.advance(storage, worker.lost_after - 5)
        before = await read(storage, job)
        assert (await storage.rescue()).workers == []
        assert await read(storage, job) == before

    @pytest.mark.parametrize(
        ("max_attempts", "request_", "state"),
        [(10, None, S.PENDING), (1, None, S.FAILED), (10, "abort", S.ABORTED), (10, "disable", S.DISABLED)],
    )
    async def test_running_jobs_of_an_unregistered_worker_are_rescued(
        self,
        storage: QueueStorage,
        worker: WorkerInfo,
        max_attempts: int,
        request_: str | None,
        state: JobState,
    ) -> None:
        job = await add_job(storage, max_attempts=max_attempts)
        claimed = await start_one(storage, worker)
        if request_ is not None:
            await getattr(storage, request_)([job])
        await storage.deregister(worker.id)
        [lost] = (await storage.rescue()).workers
        assert (lost.worker, lost.name, lost.silent_for) == (worker.id, "", 0)
        assert [(rescued.id, rescued.state) for rescued in lost.jobs] == [(job, state)]
        [attempt] = (await read(storage, job)).attempts
        assert (attempt.lease, attempt.worker) == (claimed.lease, worker.id)
        assert (await storage.rescue()).workers == []

    async def test_several_lost_workers_are_answered_each_with_its_own_jobs(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        expected: dict[UUID, list[UUID]] = {}
        for n in range(3):
            lost = await register_worker(storage, lost_after=5.0)
            expected[lost.id] = [await add_job(storage) for _ in range(n)]
            assert len(await claim(storage, lost)) == n
        gone = await register_worker(storage)
        expected[gone.id] = [await add_job(storage)]
        await claim(storage, gone)
        await storage.deregister(gone.id)
        mine = await add_job(storage)
        await claim_one(storage, worker)
        await self.advance(storage, 6)
        answers = (await storage.rescue()).workers
        assert {lost.worker: sorted(job.id for job in lost.jobs) for lost in answers} == expected
        assert len(answers) == 4
        assert (await read(storage, mine)).worker == worker.id

    async def test_a_worker_that_expired_with_more_than_a_thousand_jobs_loses_them_all(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await storage.add([new_job() for _ in range(1_300)])
        await claim(storage, worker, 2_000)
        await self.advance(storage, worker.lost_after + 1)
        [lost] = (await storage.rescue()).workers
        assert len({job.id for job in lost.jobs}) == 1_300
        assert (await storage.counts("default"))["default"][S.PENDING] == 1_300

    async def test_of_two_that_rescue_at_once_each_worker_and_job_is_in_one_answer(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        for _ in range(6):
            held: dict[UUID, UUID] = {}
            for _ in range(4):
                worker = await register_worker(storage, lost_after=5.0)
                await add_job(storage)
                held[worker.id] = (await claim_one(storage, worker)).id
            gone = await register_worker(storage)
            await add_job(storage)
            held[gone.id] = (await claim_one(storage, gone)).id
            await storage.deregister(gone.id)
            await self.advance(storage, 6)
            answers = await asyncio.gather(*((storage, other)[n % 2].rescue() for n in range(4)))
            lost = [each for answer in answers for each in answer.workers]
            assert sorted((each.worker, [job.id for job in each.jobs]) for each in lost) == sorted(
                (worker, [job]) for worker, job in held.items()
            )
            for record in await storage.get(list(held.values())):
                assert record is not None
                assert (record.state, len(record.attempts)) == (S.PENDING, 1)
            await storage.clear("default")

    async def test_a_settlement_at_the_same_time_as_the_rescue_counts_or_is_refused(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        for turn in range(15):
            job, worker = await self._lost(storage)
            [lease] = [each.lease for each in await storage.recover_claims(worker.id, [])]
            await self.advance(storage, 6)
            both: list[Any] = [
                settle_all(storage, worker.id, [Settlement(job, lease, Ending.COMPLETE, b"1")]),
                other.rescue(),
            ]
            answers = await asyncio.gather(*(both if turn % 2 else reversed(both)))
            result, rescued = answers if turn % 2 else reversed(answers)
            [lost] = rescued.workers
            state = await state_of(storage, job)
            if result.settled == [None]:
                assert ([each.id for each in lost.jobs], state) == ([job], S.PENDING)
            else:
                assert (result.settled, lost.jobs, state) == ([S.COMPLETED], [], S.COMPLETED)
            await storage.clear("default")

    async def test_a_claim_at_the_same_time_as_its_worker_is_removed_strands_no_job(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        for turn in range(10):
            worker = await register_worker(storage, lost_after=5.0)
            job = await add_job(storage)
            await self.advance(storage, 4)
            forget = other.deregister(worker.id) if turn % 4 < 2 else other.rescue()
            both: list[Any] = [storage.settle_and_claim(worker.id, (), Claim.of("default", limit=1)), forget]
            await asyncio.gather(*(both if turn % 2 else reversed(both)))
            await self.advance(storage, 2)
            await other.rescue()
            assert await state_of(storage, job) is S.PENDING
            await storage.clear("default")
