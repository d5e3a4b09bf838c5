"""The returned line: jobs that are released are claimed before all others of their queue."""

from __future__ import annotations

import pytest

from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import QueueStorage, Settlement
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import ERROR, add_job, claim, claim_one, read, register_worker, settle

S = JobState


class ReturnedLineContract(ContractBase):
    """A released job keeps its place in the line."""

    async def test_a_released_job_is_claimed_before_all_others_of_its_queue(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, priority=-100)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RELEASE)
        urgent = await add_job(storage, priority=100)
        another = await register_worker(other)
        assert [each.id for each in await claim(other, another)] == [job, urgent]

    async def test_jobs_of_one_batch_are_returned_in_its_order(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = [await add_job(storage) for _ in range(6)]
        claimed = await claim(storage, worker)
        order = [3, 0, 5, 1, 4, 2]
        batch = [Settlement(claimed[n].id, claimed[n].lease, Ending.RELEASE) for n in order]
        assert (await storage.settle_and_claim(worker.id, batch)).settled == [S.PENDING] * 6
        assert [each.id for each in await claim(storage, worker)] == [jobs[n] for n in order]

    async def test_jobs_returned_later_stand_behind_those_returned_before(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [await add_job(storage, priority=priority) for priority in (0, 3, -3)]
        claimed = {each.id: each for each in await claim(storage, worker)}
        await add_job(storage, priority=9)
        order = [jobs[2], jobs[0], jobs[1]]
        for job in order:
            await settle(storage, worker, claimed[job], Ending.RELEASE)
        assert [each.id for each in await claim(storage, worker, 3)] == order

    async def test_the_returned_line_belongs_to_its_queue(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, queues=("a", "b"))
        back = await add_job(storage, queue="b")
        await settle(storage, worker, await claim_one(storage, worker, "b"), Ending.RELEASE)
        first = await add_job(storage, queue="a", priority=-9)
        assert [each.id for each in await claim(storage, worker, 9, "a", "b")] == [first, back]

    @pytest.mark.parametrize("ending", [Ending.RETRY, Ending.SNOOZE])
    async def test_a_run_that_wants_another_turn_stands_at_the_end(
        self, storage: QueueStorage, worker: WorkerInfo, ending: Ending
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        late = await add_job(storage)
        assert await settle(storage, worker, claimed, ending, error=ERROR) is S.PENDING
        assert [each.id for each in await claim(storage, worker)] == [late, job]

    async def test_a_released_job_can_be_changed_by_hand_and_then_has_its_old_place_no_more(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RELEASE)
        late = await add_job(storage)
        assert [change.after for change in await storage.disable([job])] == [S.DISABLED]
        assert [change.after for change in await storage.enable([job])] == [S.PENDING]
        assert [each.id for each in await claim(storage, worker)] == [late, job]

    async def test_returned_jobs_are_counted_as_pending_and_found(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RELEASE)
        assert (await storage.counts("default"))["default"][S.PENDING] == 1
        record = await read(storage, job)
        assert (record.state, record.reason, record.attempt) == (S.PENDING, None, 0)
        assert await storage.clear("default") == 1

    async def test_a_returned_job_is_returned_again(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = [await add_job(storage) for _ in range(3)]
        for _ in range(3):
            claimed = await claim(storage, worker, 2)
            assert [each.id for each in claimed] == jobs[:2]
            batch = [Settlement(each.id, each.lease, Ending.RELEASE) for each in claimed]
            await storage.settle_and_claim(worker.id, batch)
        assert [each.id for each in await claim(storage, worker)] == jobs
