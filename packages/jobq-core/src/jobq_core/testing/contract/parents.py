"""Parents: the job that added another one, and `find` by it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from jobq_core.ids import new_ids
from jobq_core.parents import FOLLOWED_SECONDS, with_parent
from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import SEARCHED, JobFilter, NewJob, QueueStorage, Settlement
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.searching import found_by
from jobq_core.testing.helpers import ERROR, claim_one, new_job, read, settle

S = JobState


async def _jobs(storage: QueueStorage, count: int, **options: Any) -> list[NewJob]:
    """Return jobs whose ids are of the storage's time."""
    now = await storage.now()
    offset = (now - now.now(now.tzinfo)).total_seconds()
    return [new_job(id=job, **options) for job in new_ids(count, offset)]


class ParentsContract(ContractBase):
    """`JobRecord.parent`, and a filter with a `parent`."""

    async def _run(
        self, storage: QueueStorage, worker: WorkerInfo, children: int, seconds: float = 5.0
    ) -> tuple[UUID, list[UUID]]:
        """Let a job run that adds children in the middle of its run; return its id and theirs."""
        await storage.add(await _jobs(storage, 1))
        claimed = await claim_one(storage, worker)
        await self.advance(storage, seconds / 2)
        added = await _jobs(storage, children, queue="else", meta=with_parent(b'{"tenant":"7"}', claimed.id))
        await self.advance(storage, seconds / 2)
        done = Settlement(claimed.id, claimed.lease, Ending.COMPLETE, b"1", jobs=tuple(added))
        assert (await storage.settle_and_claim(worker.id, [done])).settled == [S.COMPLETED]
        return claimed.id, [job.id for job in added]

    async def test_children_are_found_by_their_parent(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        parents = [await self._run(storage, worker, count) for count in (3, 0, 2)]
        [client] = await _jobs(storage, 1, meta=b'{"tenant":"7"}')
        await storage.add([client])
        for parent, children in parents:
            assert await found_by(other, parent=parent) == children[::-1]
            assert await found_by(other, 1, parent=parent, queue="else") == children[::-1]
            assert await found_by(other, parent=parent, queue="default") == []
            assert (await read(other, parent)).parent is None
            for child in children:
                record = await read(other, child)
                assert (record.parent, record.meta) == (parent, {"tenant": "7"})
        assert await found_by(other, parent=client.id) == []
        assert (await read(other, client.id)).parent is None

    async def test_children_of_a_long_run_are_found(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        parent, children = await self._run(storage, worker, 2, seconds=7200.0)
        assert await found_by(storage, parent=parent) == children[::-1]

    async def test_a_job_that_is_retried_keeps_its_parent(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        parent, [child] = await self._run(storage, worker, 1)
        await storage.move([child], "default")
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
        await storage.retry([child])
        claimed = await claim_one(storage, worker)
        await settle(storage, worker, claimed, Ending.RETRY, error=ERROR)
        assert (await read(storage, child)).parent == parent
        assert await found_by(storage, parent=parent) == [child]

    async def test_children_are_found_whose_parent_does_not_exist_any_more(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        parent, children = await self._run(storage, worker, 2)
        await storage.delete([parent])
        assert await found_by(storage, parent=parent) == children[::-1]

    async def test_only_jobs_of_the_time_of_the_parent_are_looked_at(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        parent, children = await self._run(storage, worker, 2)
        await self.advance(storage, 10)
        await storage.add(await _jobs(storage, SEARCHED, queue="else"))
        page = await other.find(JobFilter(parent=parent))
        assert ([job.id for job in page.jobs], page.cursor) == (children[::-1], None)
        assert await other.count(JobFilter(parent=parent)) == 2

    async def test_what_follows_a_failure_is_found(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        [parent] = await _jobs(storage, 1)
        await storage.add([parent])
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
        follow_ups: list[UUID] = []
        for _ in range(2):
            await self.advance(storage, 0.7 * FOLLOWED_SECONDS)
            [follow_up] = await _jobs(storage, 1, queue="else", meta=with_parent(None, parent.id))
            await storage.add([follow_up])
            follow_ups.append(follow_up.id)
        assert await found_by(storage, parent=parent.id) == follow_ups[:1]
        # One that was added later is found where the time to look at is given.
        until = await storage.now() + timedelta(seconds=1)
        assert await found_by(storage, parent=parent.id, until=until) == follow_ups[::-1]
        failed_at = (await read(storage, parent.id)).finished_at
        assert failed_at is not None
        until = failed_at + timedelta(seconds=FOLLOWED_SECONDS)
        assert await found_by(storage, parent=parent.id, since=until) == []
