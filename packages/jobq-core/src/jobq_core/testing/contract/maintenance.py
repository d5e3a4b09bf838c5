"""Maintenance: leadership, promotion, rescue and retention."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from jobq_core.errors import WorkerLostError
from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, QueueStorage, RescuedJob, Retention, Settlement
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
    start_one,
    state_of,
)

S = JobState
DAY = 86_400.0


class MaintenanceContract(ContractBase):
    """The maintenance is done by one worker, and is harmless when two do it at once."""

    # lead and resign

    async def test_the_first_to_ask_leads_for_its_term(self, storage: QueueStorage, other: QueueStorage) -> None:
        one, two = new_id(), new_id()
        leadership = await storage.lead(one, 60.0)
        assert leadership.leads
        assert 50 < leadership.expires_in <= 60
        await self.advance(storage, 20)
        leadership = await other.lead(two, 60.0)
        assert not leadership.leads
        assert 30 < leadership.expires_in <= 40

    async def test_the_leader_renews_its_term(self, storage: QueueStorage) -> None:
        one, two = new_id(), new_id()
        await storage.lead(one, 60.0)
        await self.advance(storage, 40)
        leadership = await storage.lead(one, 60.0)
        assert leadership.leads
        assert 50 < leadership.expires_in <= 60
        await self.advance(storage, 40)
        assert not (await storage.lead(two, 60.0)).leads

    async def test_another_leads_once_the_term_is_over(self, storage: QueueStorage, other: QueueStorage) -> None:
        one, two = new_id(), new_id()
        await storage.lead(one, 60.0)
        await self.advance(storage, 61)
        assert (await other.lead(two, 60.0)).leads
        assert not (await storage.lead(one, 60.0)).leads

    async def test_another_leads_at_once_when_the_leader_resigns(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        one, two = new_id(), new_id()
        await storage.lead(one, 60.0)
        await storage.resign(two)
        assert not (await other.lead(two, 60.0)).leads
        await storage.resign(one)
        assert (await other.lead(two, 60.0)).leads
        await storage.resign(one)
        assert not (await storage.lead(one, 60.0)).leads

    async def test_of_many_that_ask_at_once_one_leads(self, storage: QueueStorage, other: QueueStorage) -> None:
        for _ in range(8):
            workers = [new_id() for _ in range(8)]
            answers = await asyncio.gather(
                *((storage, other)[n % 2].lead(worker, 60.0) for n, worker in enumerate(workers))
            )
            [leader] = [worker for worker, answer in zip(workers, answers, strict=True) if answer.leads]
            await storage.resign(leader)

    # promote

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
        await register_worker(storage, kinds=("rare",))
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

    # rescue

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
        [answer] = await other.rescue()
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
        [lost] = await storage.rescue()
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
        [lost] = await storage.rescue()
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
            [lost] = await other.rescue()
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
        [lost] = await other.rescue()
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
        [answer] = await storage.rescue()
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
        [lost] = await storage.rescue()
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
        [lost] = await storage.rescue()
        assert [(rescued.state, rescued.attempt) for rescued in lost.jobs] == [(S.PENDING, 0)]
        assert (await read(storage, job)).attempts == ()

    async def test_a_lost_worker_without_jobs_is_reported_once(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await self.advance(storage, worker.lost_after + 1)
        [lost] = await storage.rescue()
        assert (lost.worker, lost.name, lost.jobs) == (worker.id, worker.name, [])
        assert await storage.rescue() == []

    async def test_the_jobs_of_a_worker_that_is_alive_are_left_alone(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await claim_one(storage, worker)
        await self.advance(storage, worker.lost_after - 5)
        before = await read(storage, job)
        assert await storage.rescue() == []
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
        [lost] = await storage.rescue()
        assert (lost.worker, lost.name, lost.silent_for) == (worker.id, "", 0)
        assert [(rescued.id, rescued.state) for rescued in lost.jobs] == [(job, state)]
        [attempt] = (await read(storage, job)).attempts
        assert (attempt.lease, attempt.worker) == (claimed.lease, worker.id)
        assert await storage.rescue() == []

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
        answers = await storage.rescue()
        assert {lost.worker: sorted(job.id for job in lost.jobs) for lost in answers} == expected
        assert len(answers) == 4
        assert (await read(storage, mine)).worker == worker.id

    async def test_a_worker_that_expired_with_more_than_a_thousand_jobs_loses_them_all(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await storage.add([new_job() for _ in range(1_300)])
        await claim(storage, worker, 2_000)
        await self.advance(storage, worker.lost_after + 1)
        [lost] = await storage.rescue()
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
            lost = [each for answer in answers for each in answer]
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
                storage.settle_and_claim(worker.id, [Settlement(job, lease, Ending.COMPLETE, b"1")]),
                other.rescue(),
            ]
            answers = await asyncio.gather(*(both if turn % 2 else reversed(both)))
            result, [lost] = answers if turn % 2 else reversed(answers)
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
            both: list[Any] = [storage.settle_and_claim(worker.id, (), Claim(("default",), 1)), forget]
            await asyncio.gather(*(both if turn % 2 else reversed(both)))
            await self.advance(storage, 2)
            await other.rescue()
            assert await state_of(storage, job) is S.PENDING
            await storage.clear("default")

    # retention

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
        await other.set_retention({"default": Retention(**kept)})
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
        await storage.set_retention({"default": Retention(completed=0, failed=0, aborted=0)})
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
        await storage.set_retention({"here": Retention(completed=None), "there": Retention(completed=0)})
        await other.set_retention({"here": Retention(completed=100.0)})
        await storage.set_retention({})
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
        await storage.set_retention({"default": Retention(completed=0, failed=0, aborted=0)})
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
