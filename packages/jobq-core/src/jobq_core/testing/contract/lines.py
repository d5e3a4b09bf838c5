"""The lines of a claim: limits, bytes, and paused queues."""

from __future__ import annotations

from jobq_core.records import WorkerInfo
from jobq_core.storage import Claim, Line, QueueOptions, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import add_job, register_worker


class LinesContract(ContractBase):
    """A claim takes from its lines what their limits allow."""

    async def test_a_line_gives_no_more_than_its_limit(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, queues=("a", "b", "c"))
        jobs = {queue: [await add_job(storage, queue=queue) for _ in range(4)] for queue in "abc"}
        lines = (Line("b", 1), Line("a", 2), Line("c"))
        result = await storage.settle_and_claim(worker.id, (), Claim(lines, 5))
        assert [job.id for job in result.claimed] == [jobs["b"][0], *jobs["a"][:2], *jobs["c"][:2]]
        assert result.picked == 5
        rest = await storage.settle_and_claim(worker.id, (), Claim(lines, 100))
        assert [job.id for job in rest.claimed] == [jobs["b"][1], *jobs["a"][2:], *jobs["c"][2:]]
        assert rest.picked == 5
        assert not rest.more

    async def test_a_line_without_room_gives_nothing(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, queues=("a", "b"))
        await add_job(storage, queue="a")
        job = await add_job(storage, queue="b")
        result = await storage.settle_and_claim(worker.id, (), Claim((Line("a", 0), Line("b")), 2))
        assert [each.id for each in result.claimed] == [job]

    async def test_the_claims_limit_holds_over_its_lines(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, queues=("a", "b"))
        jobs = [await add_job(storage, queue=queue) for queue in "aabb"]
        result = await storage.settle_and_claim(worker.id, (), Claim((Line("a", 2), Line("b", 2)), 3))
        assert [each.id for each in result.claimed] == jobs[:3]

    async def test_a_claim_ends_before_the_job_that_exceeds_its_bytes(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [await add_job(storage, arguments=b'"%s"' % (b"x" * (size - 2))) for size in (400, 500, 200, 50)]
        first = await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=9, max_bytes=1000))
        assert [job.id for job in first.claimed] == jobs[:2]
        assert (first.picked, first.more) == (2, True)
        second = await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=9, max_bytes=1000))
        assert [job.id for job in second.claimed] == jobs[2:]
        assert (second.picked, second.more) == (2, False)

    async def test_one_job_is_claimed_whatever_its_size(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, queues=("a", "b"))
        jobs = [await add_job(storage, queue=queue, arguments=b'"%s"' % (b"x" * 5000)) for queue in "aab"]
        found = []
        for more in (True, True, False):
            result = await storage.settle_and_claim(worker.id, (), Claim.of("a", "b", limit=9, max_bytes=100))
            assert result.more is more
            found += [job.id for job in result.claimed]
            assert len(result.claimed) == 1
        assert found == jobs

    async def test_all_jobs_that_fit_exactly_are_claimed(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = [await add_job(storage, arguments=b'"%s"' % (b"x" * 98)) for _ in range(3)]
        result = await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=9, max_bytes=300))
        assert [job.id for job in result.claimed] == jobs
        assert not result.more

    async def test_a_paused_queue_gives_nothing_and_is_named(self, storage: QueueStorage, other: QueueStorage) -> None:
        worker = await register_worker(storage, queues=("a", "b", "c"))
        jobs = {queue: await add_job(storage, queue=queue) for queue in "ab"}
        await other.set_queue("a", QueueOptions(paused=True))
        result = await storage.settle_and_claim(worker.id, (), Claim.of("a", "b", "c", limit=9))
        assert [job.id for job in result.claimed] == [jobs["b"]]
        assert result.paused == ("a",)
        await other.set_queue("a", QueueOptions(paused=False))
        result = await storage.settle_and_claim(worker.id, (), Claim.of("a", "b", "c", limit=9))
        assert [job.id for job in result.claimed] == [jobs["a"]]
        assert result.paused == ()
