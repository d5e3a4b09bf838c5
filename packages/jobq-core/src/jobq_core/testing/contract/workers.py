"""Workers: registration, and the heartbeat, which runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import pytest
from msgspec.structs import replace

from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import UNKNOWN_KIND, Heartbeat, QueueStorage
from jobq_core.testing.contract.adding import WORDS
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import add_job, claim_one, job_in, read, register_worker, settle, state_of, worker_info

T = TypeVar("T")

STATS = WorkerStats(
    completed=1,
    failed=2,
    retried=3,
    aborted=4,
    disabled=5,
    released=6,
    running=7,
    busy_seconds=8.125,
    unknown_kinds={"rare": 9, WORDS: 1},
    hears=False,
    limited=1.5,
    memory=2**40,
    slots=0,
    awaiting_process=(UUID(int=1), UUID(int=2**128 - 1)),
)


def in_thread(call: Callable[[], T]) -> T:
    """Run a call in a thread while the event loop is blocked, as by a handler."""
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(call()), daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert answers, "the call needed the event loop, or failed"
    return answers[0]


def close(heartbeat: Heartbeat) -> None:
    """Close a heartbeat in a thread, as its worker does."""
    assert in_thread(lambda: [heartbeat.close()]) == [None]


class WorkersContract(ContractBase):
    """A worker is alive while its heartbeat renews its row."""

    async def test_a_registered_worker_is_listed_as_it_described_itself(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        info = worker_info(
            name=WORDS,
            host="h",
            pid=2**31 - 1,
            queues=("b", "a"),
            kinds=("k", "j"),
            concurrency=7,
            lost_after=12.5,
            versions={"python": "3.11.2", WORDS: WORDS},
        )
        before = await storage.now()
        await storage.register(info)
        after = await storage.now()
        [record] = await other.workers()
        assert (record.info, record.stats) == (info, WorkerStats())
        assert before <= record.started_at <= after
        assert before <= record.beat_at <= after
        assert record.expires_at == record.beat_at + timedelta(seconds=12.5)

    async def test_a_worker_may_know_no_kind(self, storage: QueueStorage) -> None:
        info = await register_worker(storage, kinds=())
        assert [record.info for record in await storage.workers()] == [info]

    async def test_workers_are_listed_oldest_first(self, storage: QueueStorage, other: QueueStorage) -> None:
        infos: list[WorkerInfo] = []
        # Their ids are in reverse order.
        for n, worker in enumerate(sorted((new_id() for _ in range(6)), reverse=True)):
            infos.append(await register_worker((storage, other)[n % 2], id=worker, lost_after=600.0))
            await self.advance(storage, 1)
        await storage.register(infos[2])
        assert [record.info for record in await storage.workers()] == infos

    async def test_registering_again_renews_the_worker(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        [first] = await storage.workers()
        await self.advance(storage, 20)
        await storage.register(worker)
        [again] = await storage.workers()
        assert (again.info, again.started_at) == (worker, first.started_at)
        assert again.expires_at - first.expires_at >= timedelta(seconds=20)
        await self.advance(storage, 20)
        assert (await storage.rescue()).workers == []

    async def test_the_last_registration_of_a_worker_counts(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        again = replace(worker, kinds=("noop", "rare"), concurrency=9, lost_after=100.0, versions={"a": "2"})
        await storage.register(again)
        [record] = await storage.workers()
        assert record.info == again
        assert record.expires_at >= record.started_at + timedelta(seconds=100)

    async def test_an_expired_worker_is_listed_until_its_jobs_are_rescued(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await self.advance(storage, worker.lost_after + 1)
        [record] = await storage.workers()
        assert record.info == worker
        assert record.expires_at < await storage.now()
        await storage.rescue()
        assert await storage.workers() == []

    async def test_a_deregistered_worker_is_removed(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        stays = await register_worker(storage)
        for _ in range(2):
            await storage.deregister(worker.id)
            assert [record.info for record in await storage.workers()] == [stays]
        await self.advance(storage, stays.lost_after + 1)
        assert [lost.worker for lost in (await storage.rescue()).workers] == [stays.id]

    async def test_a_worker_that_was_taken_for_lost_can_register_again(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await self.advance(storage, worker.lost_after + 1)
        await storage.rescue()
        await storage.register(worker)
        await add_job(storage)
        await claim_one(storage, worker)

    # Unknown kinds

    async def test_a_registration_frees_no_job(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        """Claims free the jobs that their workers can take, as many as they ask for."""
        blocked = await job_in(storage, worker, JobState.BLOCKED, kind="rare")
        scheduled = await add_job(storage, kind="rare", run_at=600.0)
        await register_worker(storage, kinds=("rare",))
        assert [await state_of(storage, job) for job in (blocked, scheduled)] == [JobState.BLOCKED, JobState.SCHEDULED]

    async def test_a_job_of_an_unknown_kind_becomes_pending_again_when_its_time_comes(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, kind="rare")
        await settle(storage, worker, await claim_one(storage, worker), Ending.RELEASE, when=60.0, reason=UNKNOWN_KIND)
        record = await read(storage, job)
        assert (record.state, record.reason, record.attempt) == (JobState.BLOCKED, UNKNOWN_KIND, 0)
        await self.advance(storage, 61)
        assert (await storage.promote()).promoted == 1
        await storage.register(worker)
        assert (await claim_one(storage, worker)).attempt == 1

    # The heartbeat

    async def test_a_heartbeat_works_from_a_thread_while_the_event_loop_is_blocked(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        heartbeat = storage.heartbeat(worker)
        try:
            await self.advance(storage, 20)
            now = await storage.now()
            assert in_thread(lambda: heartbeat.beat(STATS)) is True
            [record] = await other.workers()
            assert (record.info, record.stats) == (worker, STATS)
            assert record.beat_at >= now
            assert record.expires_at == record.beat_at + timedelta(seconds=worker.lost_after)
            await self.advance(storage, 20)
            assert (await storage.rescue()).workers == []
        finally:
            close(heartbeat)

    async def test_the_last_statistics_count(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        heartbeat = storage.heartbeat(worker)
        stats = WorkerStats(completed=1, unknown_kinds={"a": 1})
        assert in_thread(lambda: heartbeat.beat(STATS))
        assert in_thread(lambda: heartbeat.beat(stats))
        close(heartbeat)
        stats.unknown_kinds["b"] = 2
        [record] = await storage.workers()
        assert record.stats == WorkerStats(completed=1, unknown_kinds={"a": 1})

    @pytest.mark.parametrize("end", ["never registered", "deregistered", "taken for lost"])
    async def test_a_worker_that_is_not_registered_has_no_heartbeat(self, storage: QueueStorage, end: str) -> None:
        worker = worker_info()
        if end != "never registered":
            await storage.register(worker)
        heartbeat = storage.heartbeat(worker)
        if end == "deregistered":
            assert in_thread(lambda: heartbeat.beat(STATS)) is True
            await storage.deregister(worker.id)
        elif end == "taken for lost":
            await self.advance(storage, worker.lost_after + 1)
            await storage.rescue()
        assert in_thread(lambda: heartbeat.beat(STATS)) is False
        assert await storage.workers() == []
        close(heartbeat)

    async def test_an_expired_worker_that_was_not_taken_for_lost_is_renewed(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await self.advance(storage, worker.lost_after + 100)
        heartbeat = storage.heartbeat(worker)
        assert in_thread(lambda: heartbeat.beat(STATS)) is True
        close(heartbeat)
        assert (await storage.rescue()).workers == []
        assert await settle(storage, worker, claimed) is JobState.COMPLETED
        assert await state_of(storage, job) is JobState.COMPLETED

    async def test_a_heartbeat_that_never_beat_can_be_closed_twice(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        heartbeat = storage.heartbeat(worker)
        close(heartbeat)
        close(heartbeat)

    async def test_a_heartbeat_at_the_same_time_as_a_rescue_returns_whether_the_worker_is_alive(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        for _ in range(10):
            worker = await register_worker(storage, lost_after=5.0)
            await add_job(storage)
            await claim_one(storage, worker)
            heartbeat = storage.heartbeat(worker)
            await self.advance(storage, 6)
            alive, found = await asyncio.gather(asyncio.to_thread(heartbeat.beat, WorkerStats()), other.rescue())
            assert [each.worker for each in found.workers] == ([] if alive else [worker.id])
            assert [record.info.id for record in await storage.workers()] == ([worker.id] if alive else [])
            await asyncio.to_thread(heartbeat.close)
            await storage.deregister(worker.id)
            await storage.clear("default")
