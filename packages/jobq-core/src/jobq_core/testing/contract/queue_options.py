"""Options of queues: each has one owner, and all workers see them."""

from __future__ import annotations

import pytest

from jobq_core.records import WorkerInfo
from jobq_core.states import JobState
from jobq_core.storage import QueueOptions, QueueStorage, Retention, queue_topic
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.notifications import notified, silence
from jobq_core.testing.helpers import add_job, claim, job_in, read

S = JobState
SHORT, LONG = Retention(completed=10), Retention(completed=None)


class QueueOptionsContract(ContractBase):
    """`set_queue` and `queues`."""

    async def test_options_are_kept_and_listed_by_name(self, storage: QueueStorage, other: QueueStorage) -> None:
        await add_job(storage, queue="without options")
        before = await storage.now()
        await storage.set_queue("b", QueueOptions(paused=True))
        await storage.set_queue("a", QueueOptions(retention=SHORT))
        await storage.set_queue("c", QueueOptions())
        a, b = await other.queues()
        assert (a.name, a.paused_at, a.retention, a.owner) == ("a", None, SHORT, "operator")
        assert (b.name, b.retention, b.owner) == ("b", None, None)
        assert b.paused_at is not None
        assert before <= b.paused_at <= await storage.now()

    async def test_an_option_that_is_not_given_stays(self, storage: QueueStorage) -> None:
        await storage.set_queue("a", QueueOptions(paused=True, retention=SHORT))
        [first] = await storage.queues()
        await storage.set_queue("a", QueueOptions(retention=LONG))
        await self.advance(storage, 10)
        await storage.set_queue("a", QueueOptions(paused=True))  # it is paused since the first call
        [second] = await storage.queues()
        assert (second.paused_at, second.retention) == (first.paused_at, LONG)
        await storage.set_queue("a", QueueOptions(paused=False))
        [third] = await storage.queues()
        assert (third.paused_at, third.retention) == (None, LONG)

    async def test_a_worker_never_replaces_what_an_operator_set(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        await storage.set_queue("a", QueueOptions(retention=SHORT), "worker")
        await other.set_queue("a", QueueOptions(retention=LONG), "worker")
        [record] = await storage.queues()
        assert (record.retention, record.owner) == (LONG, "worker")
        await storage.set_queue("a", QueueOptions(retention=SHORT))
        await other.set_queue("a", QueueOptions(retention=LONG), "worker")
        [record] = await storage.queues()
        assert (record.retention, record.owner) == (SHORT, "operator")
        await other.set_queue("a", QueueOptions(retention=LONG))
        [record] = await storage.queues()
        assert (record.retention, record.owner) == (LONG, "operator")

    async def test_a_pause_by_an_operator_leaves_the_retention_to_the_workers(self, storage: QueueStorage) -> None:
        await storage.set_queue("a", QueueOptions(paused=True))
        await storage.set_queue("a", QueueOptions(paused=False, retention=SHORT), "worker")
        [record] = await storage.queues()
        assert (record.retention, record.owner) == (SHORT, "worker")
        assert record.paused_at is not None

    async def test_a_paused_queue_takes_jobs_and_its_running_ones_go_on(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        running = await job_in(storage, worker, S.PROCESSING)
        await storage.set_queue("default", QueueOptions(paused=True))
        await add_job(storage)
        assert await claim(storage, worker) == []
        [claimed] = await storage.recover_claims(worker.id, [])
        assert claimed.id == running
        assert (await read(storage, running)).state is S.PROCESSING

    async def test_the_end_of_a_pause_wakes_the_workers(self, storage: QueueStorage, other: QueueStorage) -> None:
        await storage.set_queue("default", QueueOptions(paused=True))
        async with other.subscribe([queue_topic("default")]) as there:
            await silence(there)
            await storage.set_queue("default", QueueOptions(paused=False))
            await notified(there, queue_topic("default"))

    @pytest.mark.parametrize("owner", ["operator", "worker"])
    async def test_the_retention_counts_from_the_next_prune_on(
        self, storage: QueueStorage, worker: WorkerInfo, owner: str
    ) -> None:
        await job_in(storage, worker, S.COMPLETED)
        failed = await job_in(storage, worker, S.FAILED)
        await self.advance(storage, 5)
        await storage.set_queue("default", QueueOptions(retention=Retention(completed=3)), owner)  # type: ignore[arg-type]
        assert await storage.prune() == 1
        assert (await read(storage, failed)).state is S.FAILED
