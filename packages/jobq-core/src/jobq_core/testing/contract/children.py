"""Children: the jobs that a settlement stores, exactly if it takes effect; and the progress that it keeps."""

from __future__ import annotations

import pytest

from jobq_core.records import Progress, WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import QueueStorage, Settlement, queue_topic
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.notifications import notified, silence
from jobq_core.testing.helpers import ERROR, add_job, claim, claim_one, new_job, read, state_of

S = JobState


class ChildrenContract(ContractBase):
    """What a run adds and reports is stored with its ending."""

    @pytest.mark.parametrize("ending", Ending)
    async def test_children_are_stored_with_the_ending(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, ending: Ending
    ) -> None:
        await add_job(storage)
        claimed = await claim_one(storage, worker)
        now = new_job(queue="else", priority=3, meta=b'{"tenant":"7"}')
        later = new_job(run_at=600.0, tags=("x",), meta=b'{"tenant":"8"}')
        result = b"1" if ending is Ending.COMPLETE else None
        error = ERROR if ending in (Ending.FAIL, Ending.RETRY) else None
        once = Settlement(claimed.id, claimed.lease, ending, result, error, jobs=(now, later))
        first = await storage.settle_and_claim(worker.id, [once])
        assert first.settled[0] is not None
        assert [await state_of(other, job.id) for job in (now, later)] == [S.PENDING, S.SCHEDULED]
        record = await read(other, now.id)
        assert (record.queue, record.priority, record.attempt) == ("else", 3, 0)
        assert [(await read(other, job.id)).meta for job in (now, later)] == [{"tenant": "7"}, {"tenant": "8"}]
        # Sent again, as after a lost answer, it stores nothing: not even a child that was deleted.
        await storage.delete([now.id])
        assert (await storage.settle_and_claim(worker.id, [once])).settled == first.settled
        assert await state_of(other, now.id) is None

    async def test_a_settlement_whose_lease_is_over_stores_no_children(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await storage.delete([job])
        child = new_job()
        late = Settlement(claimed.id, claimed.lease, Ending.COMPLETE, b"1", jobs=(child,))
        assert (await storage.settle_and_claim(worker.id, [late])).settled == [None]
        assert await state_of(storage, child.id) is None

    async def test_children_stand_in_the_order_of_the_batch(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        for _ in range(3):
            await add_job(storage)
        claimed = await claim(storage, worker)
        children = [[new_job() for _ in range(3)] for _ in claimed]
        batch = [
            Settlement(job.id, job.lease, Ending.COMPLETE, b"1", jobs=tuple(some))
            for job, some in zip(claimed, children, strict=True)
        ]
        assert (await storage.settle_and_claim(worker.id, batch)).settled == [S.COMPLETED] * 3
        expected = [job.id for some in children for job in some]
        assert [job.id for job in await claim(storage, worker)] == expected

    async def test_a_child_whose_key_or_id_is_held_is_not_stored_and_the_ending_stands(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await add_job(storage)
        claimed = await claim_one(storage, worker)
        held = await add_job(storage, unique_key="k", run_at=600.0)
        twin, new = new_job(unique_key="k"), new_job(unique_key="l")
        again = new_job(id=held, queue="else")
        once = Settlement(claimed.id, claimed.lease, Ending.COMPLETE, b"1", jobs=(twin, again, new))
        assert (await storage.settle_and_claim(worker.id, [once])).settled == [S.COMPLETED]
        assert [await state_of(storage, job) for job in (twin.id, new.id)] == [None, S.PENDING]
        assert (await read(storage, held)).queue == "default"

    async def test_a_job_may_be_followed_by_a_child_with_its_own_key(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await add_job(storage, unique_key="k")
        claimed = await claim_one(storage, worker)
        child = new_job(unique_key="k")
        once = Settlement(claimed.id, claimed.lease, Ending.COMPLETE, b"1", jobs=(child,))
        assert (await storage.settle_and_claim(worker.id, [once])).settled == [S.COMPLETED]
        assert await state_of(storage, child.id) is S.PENDING

    async def test_children_wake_the_workers_of_their_queue(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        async with other.subscribe([queue_topic("else")]) as there:
            await add_job(storage)
            claimed = await claim_one(storage, worker)
            await silence(there)
            once = Settlement(claimed.id, claimed.lease, Ending.COMPLETE, b"1", jobs=(new_job(queue="else"),))
            await storage.settle_and_claim(worker.id, [once])
            await notified(there, queue_topic("else"))

    @pytest.mark.parametrize("ending", [Ending.COMPLETE, Ending.FAIL, Ending.ABORT])
    async def test_the_last_progress_is_kept_with_the_ending(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, ending: Ending
    ) -> None:
        jobs = [await add_job(storage) for _ in range(2)]
        claimed = await claim(storage, worker)
        progress = Progress(percent=100.0, message="all done", details={"rows": [1, 2]})
        batch = [Settlement(job.id, job.lease, ending, b"1", progress=progress) for job in claimed[:1]]
        batch += [Settlement(job.id, job.lease, ending, b"1") for job in claimed[1:]]
        await storage.settle_and_claim(worker.id, batch)
        assert [(await read(other, job)).progress for job in jobs] == [progress, Progress()]
        [status] = await other.get_status(jobs[:1])
        assert status is not None
        assert status.progress == progress
