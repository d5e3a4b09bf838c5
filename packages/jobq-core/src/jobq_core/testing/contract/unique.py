"""Unique keys: each belongs to one unfinished job of a queue."""

from __future__ import annotations

import asyncio

import pytest

from jobq_core.records import WorkerInfo
from jobq_core.states import FINISHED, Ending, JobState
from jobq_core.storage import Added, QueueStorage, Settlement
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import (
    ERROR,
    RUN_ENDINGS,
    add_job,
    case,
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

UNFINISHED = [state for state in JobState if state not in FINISHED]


class UniqueContract(ContractBase):
    """A unique key belongs to one job until that job is finished."""

    async def test_a_second_job_of_a_key_is_answered_with_the_first_until_that_is_finished(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for state in UNFINISHED:
            with case(state):
                first = await job_in(storage, worker, state, queue=state.value, unique_key="k", arguments=b'{"n":1}')
                before = await read(storage, first)
                second = new_job(queue=state.value, unique_key="k", arguments=b'{"n":2}')
                assert await other.add([second]) == [Added(first, False)]
                assert await state_of(storage, second.id) is None
                assert await read(storage, first) == before

    async def test_a_key_holds_within_one_batch(self, storage: QueueStorage) -> None:
        a1, b1, a2, plain = (new_job(unique_key=key) for key in ("a", "b", "a", None))
        assert await storage.add([a1, b1, a2, plain]) == [
            Added(a1.id, True),
            Added(b1.id, True),
            Added(a1.id, False),
            Added(plain.id, True),
        ]
        assert await state_of(storage, a2.id) is None

    async def test_a_key_belongs_to_one_queue(self, storage: QueueStorage) -> None:
        await add_job(storage, unique_key="k")
        await add_job(storage, unique_key="k", queue="another")

    async def test_jobs_without_a_key_are_all_added(self, storage: QueueStorage) -> None:
        jobs = [new_job() for _ in range(3)]
        assert all(added.created for added in await storage.add(jobs))

    async def test_fifty_adds_of_one_key_at_once_make_one_job(self, storage: QueueStorage, other: QueueStorage) -> None:
        for turn in range(5):
            jobs = [new_job(unique_key=f"k{turn}") for _ in range(50)]
            adds = await asyncio.gather(*((storage, other)[n % 2].add([job]) for n, job in enumerate(jobs)))
            [winner] = [added.id for [added] in adds if added.created]
            assert {added.id for [added] in adds} == {winner}
            assert [r.id for r in await storage.get([job.id for job in jobs]) if r is not None] == [winner]

    async def test_batches_of_the_same_keys_in_opposite_order_do_not_block_each_other(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        for turn in range(10):
            keys = [f"{turn}-{n}" for n in range(20)]
            up, down = await asyncio.gather(
                storage.add([new_job(unique_key=key) for key in keys]),
                other.add([new_job(unique_key=key) for key in reversed(keys)]),
            )
            down.reverse()
            for one, two in zip(up, down, strict=True):
                assert one.id == two.id
                assert one.created is not two.created

    async def test_a_settlement_frees_the_key_if_it_ends_the_job(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        for ending in RUN_ENDINGS:
            for when in (None, 60.0):
                with case(f"{ending} {when}"):
                    job = await add_job(storage, unique_key="k")
                    state = await settle(
                        storage, worker, await claim_one(storage, worker), ending, error=ERROR, when=when
                    )
                    second = new_job(unique_key="k")
                    expected = Added(second.id, True) if state in FINISHED else Added(job, False)
                    assert await storage.add([second]) == [expected]
                    await storage.clear("default")

    async def test_an_abort_frees_the_key(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        for state in UNFINISHED:
            if state is not JobState.PROCESSING:
                with case(state):
                    await storage.abort([await job_in(storage, worker, state, unique_key="k")])
                    await storage.delete([await add_job(storage, unique_key="k")])

    async def test_deleting_frees_the_key(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        for state in UNFINISHED:
            with case(state):
                await storage.delete([await job_in(storage, worker, state, unique_key="k")])
                await storage.delete([await add_job(storage, unique_key="k")])

    async def test_clearing_frees_the_keys(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        for state in UNFINISHED:
            with case(state):
                await job_in(storage, worker, state, unique_key="k")
                await storage.clear("default")
                await storage.delete([await add_job(storage, unique_key="k")])

    async def test_failing_with_its_worker_frees_the_key(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await add_job(storage, unique_key="k", max_attempts=1)
        await start_one(storage, worker)
        await self.advance(storage, worker.lost_after + 1)
        await storage.rescue()
        await add_job(storage, unique_key="k")

    async def test_a_rescue_frees_the_key_if_it_ends_the_job(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        for request in (None, "disable", "abort"):
            with case(request):
                lost = await register_worker(storage)
                job = await add_job(storage, unique_key="k")
                await start_one(storage, lost)
                if request is not None:
                    await getattr(storage, request)([job])
                await storage.deregister(lost.id)
                await storage.rescue()
                second = new_job(unique_key="k")
                expected = Added(second.id, True) if request == "abort" else Added(job, False)
                assert await storage.add([second]) == [expected]
                await storage.clear("default")

    @pytest.mark.parametrize("end", ["delete", "retry and complete"])
    async def test_the_end_of_an_earlier_job_does_not_free_the_key_of_its_successor(
        self, storage: QueueStorage, worker: WorkerInfo, end: str
    ) -> None:
        first = await job_in(storage, worker, JobState.FAILED, unique_key="k")
        second = await add_job(storage, unique_key="k", run_at=60.0)
        if end == "delete":
            await storage.delete([first])
        else:
            await storage.retry([first])
            assert await claim(storage, worker) == []
        assert await storage.add([new_job(unique_key="k")]) == [Added(second, False)]

    async def test_a_job_added_again_keeps_its_id_although_another_of_the_batch_takes_its_key(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        done = await job_in(storage, worker, JobState.COMPLETED, unique_key="k")
        waiting = await add_job(storage, unique_key="l")
        new = new_job(unique_key="k")
        again = [new_job(id=done, unique_key="k"), new_job(id=waiting, unique_key="k")]
        added = await storage.add([new, *again])
        assert added == [Added(new.id, True), Added(done, False), Added(waiting, False)]

    async def test_a_finished_job_that_is_added_again_does_not_take_its_key(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = new_job(unique_key="k")
        await storage.add([job])
        await settle(storage, worker, await claim_one(storage, worker))
        # As a caller does whose answer was lost.
        assert await storage.add([job]) == [Added(job.id, False)]
        second = new_job(unique_key="k")
        assert await storage.add([second]) == [Added(second.id, True)]

    async def test_a_job_whose_key_belongs_to_another_job_is_not_retried(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        for state in (JobState.FAILED, JobState.ABORTED):
            first = await job_in(storage, worker, state, queue=state.value, unique_key="k")
            before = await read(storage, first)
            await add_job(storage, queue=state.value, unique_key="k")
            [change] = await storage.retry([first])
            assert (change.before, change.after, change.changed) == (state, state, False)
            assert await read(storage, first) == before

    async def test_a_retried_job_has_its_key_again(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        for state in (JobState.FAILED, JobState.ABORTED):
            job = await job_in(storage, worker, state, queue=state.value, unique_key="k")
            await storage.retry([job])
            assert await storage.add([new_job(queue=state.value, unique_key="k")]) == [Added(job, False)]

    async def test_of_two_jobs_of_a_key_retried_in_one_batch_one_is_put_back(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [await job_in(storage, worker, JobState.FAILED, unique_key="k") for _ in range(2)]
        changes = await storage.retry(jobs)
        assert sorted(change.changed for change in changes) == [False, True]
        assert sorted([str(await state_of(storage, job)) for job in jobs]) == ["failed", "pending"]

    async def test_retries_and_adds_of_one_key_at_once_leave_it_with_one_job(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for turn in range(10):
            key = f"k{turn}"
            old = await job_in(storage, worker, JobState.FAILED, unique_key=key)
            new = new_job(unique_key=key)
            [change], [added] = await asyncio.gather(storage.retry([old]), other.add([new]))
            assert added == (Added(old, False) if change.changed else Added(new.id, True))
            await storage.delete([old, new.id])

    async def test_settlements_and_adds_of_the_same_keys_do_not_block_each_other(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for turn in range(10):
            jobs = [new_job(unique_key=f"{turn}-{n}") for n in range(20)]
            await storage.add(jobs)
            settlements = [
                Settlement(job.id, job.lease, Ending.COMPLETE, b"null") for job in await claim(storage, worker)
            ]
            again = [new_job(unique_key=job.unique_key) for job in reversed(jobs)]
            done, answers = await asyncio.gather(storage.settle_and_claim(worker.id, settlements), other.add(again))
            assert done.settled == [JobState.COMPLETED] * 20
            for old, new, added in zip(jobs, reversed(again), reversed(answers), strict=True):
                assert added in (Added(old.id, False), Added(new.id, True))
            await storage.delete([job.id for job in again])
