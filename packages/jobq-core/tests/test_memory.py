from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from types import FrameType
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobq_core.errors import ClosedError, ConfigurationError
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, JobFilter, Leadership, QueueStorage, Settlement, queue_topic
from jobq_core.testing import (
    LogsContract,
    ManualClock,
    StorageContract,
    add_job,
    claim,
    claim_one,
    new_job,
    register_worker,
    state_of,
)


class TestMemory(StorageContract, LogsContract):
    """On a clock that stands still, so that times alone order nothing."""

    @pytest.fixture
    async def storage(self) -> AsyncIterator[MemoryQueueStorage]:
        self.clock = ManualClock()
        async with MemoryQueueStorage(str(uuid4()), clock=self.clock) as storage:
            yield storage

    async def second(self, storage: QueueStorage) -> QueueStorage:
        other = MemoryQueueStorage.from_url(storage.url)
        await other.open()
        return other

    async def advance(self, storage: QueueStorage, seconds: float) -> None:
        self.clock.advance(seconds)


# Names


async def test_a_storage_without_a_name_is_private() -> None:
    async with MemoryQueueStorage.from_url("memory://") as one, MemoryQueueStorage.from_url("memory://") as two:
        job = await add_job(one)
        assert await state_of(two, job) is None
        assert (one.url, two.url) == ("memory://", "memory://")


async def test_storages_of_one_name_share_their_jobs_and_others_do_not() -> None:
    name = str(uuid4())
    async with MemoryQueueStorage(name) as one:
        job = await add_job(one)
    async with MemoryQueueStorage.from_url(f"memory://{name}") as two, MemoryQueueStorage(name + "x") as three:
        assert two.url == f"memory://{name}"
        assert await state_of(two, job) is JobState.PENDING
        assert await state_of(three, job) is None


@pytest.mark.parametrize(
    "url", ["memory:", "memory:/x", "memory://a/b", "memory://a?b=1", "memory://u:p@h", "sqlite://"]
)
def test_a_url_with_more_than_a_name_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="memory://name"):
        MemoryQueueStorage.from_url(url)


@pytest.mark.parametrize("name", [7, ["a"], "\ud800"], ids=ascii)
def test_a_name_that_is_not_text_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="the name of a memory storage must be text"):
        MemoryQueueStorage(name)


def test_storages_of_one_name_have_one_clock() -> None:
    name, clock = str(uuid4()), ManualClock()
    first = MemoryQueueStorage(name, clock=clock)
    MemoryQueueStorage(name, clock=clock)
    MemoryQueueStorage(name)
    with pytest.raises(ConfigurationError, match="another clock"):
        MemoryQueueStorage(name, clock=ManualClock())
    assert first.url == f"memory://{name}"


async def test_the_default_clock_is_this_machines() -> None:
    async with MemoryQueueStorage() as storage:
        before = time.time()
        assert before - 1e-6 <= (await storage.now()).timestamp() <= time.time() + 1e-6


@pytest.mark.parametrize("jump", [7200.0, -7200.0, 30 * 86_400.0])
async def test_setting_the_time_of_day_neither_ends_nor_prolongs_leases(
    jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    day, steady = ManualClock(), ManualClock(1000)
    monkeypatch.setattr("time.time", day)
    monkeypatch.setattr("time.monotonic", steady)
    storage = MemoryQueueStorage()
    monkeypatch.undo()
    async with storage:
        worker, other = [await register_worker(storage, lost_after=30) for _ in range(2)]
        await storage.lead(worker.id, 30)
        await add_job(storage)
        held = await claim_one(storage, worker)
        day.advance(jump)
        steady.advance(29.999)
        assert (await storage.rescue()).workers == []
        assert await storage.lead(other.id, 30) == Leadership(False, 0.001)
        assert storage.heartbeat(other).beat(WorkerStats())
        steady.advance(0.001)
        [lost] = (await storage.rescue()).workers
        assert (lost.worker, lost.silent_for) == (worker.id, 30)
        assert [job.id for job in lost.jobs] == [held.id]
        assert await storage.lead(other.id, 30) == Leadership(True, 30)
        [record] = await storage.workers()
        assert record.beat_at == await storage.now()
        assert record.expires_at == record.beat_at + timedelta(seconds=30)


async def test_a_storage_that_was_never_opened_is_refused() -> None:
    with pytest.raises(ClosedError, match="async with"):
        await MemoryQueueStorage().add([new_job()])


async def test_memory_storage_has_no_migrations() -> None:
    storage = MemoryQueueStorage()
    assert await storage.migrate() == []
    assert storage.migration_sql() == ""


# All or nothing


async def test_a_batch_with_a_time_that_cannot_be_read_adds_nothing() -> None:
    async with MemoryQueueStorage() as storage:
        with pytest.raises(TypeError):
            await storage.add([new_job(), new_job(run_at=datetime(2030, 1, 1))])  # noqa: DTZ001
        assert (await storage.find(JobFilter())).jobs == []


async def test_settlements_with_a_time_that_cannot_be_read_settle_and_claim_nothing() -> None:
    async with MemoryQueueStorage() as storage:
        worker = await register_worker(storage)
        await storage.add([new_job() for _ in range(3)])
        one, two = await claim(storage, worker, 2)
        good = Settlement(one.id, one.lease, Ending.COMPLETE, b"1")
        bad = Settlement(two.id, two.lease, Ending.RETRY, when=datetime(2030, 1, 1))  # noqa: DTZ001
        with pytest.raises(TypeError):
            await storage.settle_and_claim(worker.id, [good, bad], Claim.of("default", limit=1))
        counts = (await storage.counts("default"))["default"]
        assert (counts[JobState.PROCESSING], counts[JobState.PENDING]) == (2, 1)


# Many threads and event loops


def in_threads(number: int, work: object) -> None:
    """Run a coroutine function in several threads at once, each with its own event loop."""
    failures: list[BaseException] = []
    start = threading.Barrier(number)

    def run() -> None:
        try:
            start.wait(timeout=30)
            asyncio.run(work())  # type: ignore[operator]
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)


async def test_event_loops_in_several_threads_drain_a_queue_and_run_each_job_once() -> None:
    name = str(uuid4())
    runs: list[UUID] = []

    async def drain() -> None:
        async with MemoryQueueStorage(name) as storage:
            worker = await register_worker(storage)
            settlements: list[Settlement] = []
            while True:
                result = await storage.settle_and_claim(worker.id, settlements, Claim.of("default", limit=3))
                assert result.settled == [JobState.COMPLETED] * len(settlements)
                if not result.claimed:
                    return
                runs.extend(job.id for job in result.claimed)
                settlements = [Settlement(job.id, job.lease, Ending.COMPLETE, b"1") for job in result.claimed]

    async with MemoryQueueStorage(name) as storage:
        jobs = [new_job(priority=n % 3) for n in range(5_000)]
        await storage.add(jobs)
        await asyncio.to_thread(in_threads, 4, drain)
        assert len(runs) == 5_000
        assert set(runs) == {job.id for job in jobs}
        assert (await storage.counts("default"))["default"][JobState.COMPLETED] == 5_000


async def test_event_loops_in_several_threads_add_one_job_for_a_key() -> None:
    name = str(uuid4())
    winners: list[UUID] = []

    async def add() -> None:
        async with MemoryQueueStorage(name) as storage:
            for turn in range(200):
                [added] = await storage.add([new_job(unique_key=f"k{turn}")])
                if added.created:
                    winners.append(added.id)

    await asyncio.to_thread(in_threads, 4, add)
    assert len(winners) == 200


async def test_a_notification_reaches_a_subscription_on_the_event_loop_of_another_thread() -> None:
    name = str(uuid4())
    received = threading.Semaphore(0)
    total = 300

    async def listen() -> None:
        async with MemoryQueueStorage(name) as storage, storage.subscribe([queue_topic("default")]) as subscription:
            seen = 0
            received.release()
            async with asyncio.timeout(30):
                while seen < total:
                    assert await subscription.wait() == {queue_topic("default")}
                    now = (await storage.counts("default"))["default"][JobState.PENDING]
                    for _ in range(now - seen):
                        received.release()
                    seen = now

    async with MemoryQueueStorage(name) as storage:
        thread = asyncio.create_task(asyncio.to_thread(in_threads, 1, listen))
        assert await asyncio.to_thread(received.acquire, timeout=30)
        # Each notification comes while the other thread reads, begins to wait or wakes up; the next one follows later.
        for _ in range(total):
            await add_job(storage)
            assert await asyncio.to_thread(received.acquire, timeout=30)
        await thread


async def test_a_subscription_left_behind_on_a_closed_event_loop_does_not_fail_the_sender() -> None:
    name = str(uuid4())

    async def leave_behind() -> None:
        storage = MemoryQueueStorage(name)
        await storage.open()
        await storage.subscribe([queue_topic("default")]).__aenter__()

    async with MemoryQueueStorage(name) as storage:
        await asyncio.to_thread(in_threads, 1, leave_behind)
        for _ in range(2):
            await add_job(storage)
        async with storage.subscribe([queue_topic("default")]) as subscription:
            await add_job(storage)
            assert await subscription.wait(timeout=30) == {queue_topic("default")}


# Cost


async def test_jobs_that_no_longer_wait_do_not_fill_the_heap() -> None:
    clock = ManualClock()
    async with MemoryQueueStorage(clock=clock) as storage:
        for _ in range(50):
            jobs = [new_job(run_at=60.0) for _ in range(100)]
            await storage.add(jobs)
            await storage.abort([job.id for job in jobs[1:]])
        assert len(storage._store.due) < 300
        clock.advance(61)
        promotion = await storage.promote()
        assert (promotion.promoted, promotion.next_in) == (50, None)


async def test_a_claim_costs_the_same_for_any_number_of_jobs() -> None:
    async def lines_run(waiting: int) -> int:
        """Count the lines of Python that one claim runs. Its time would depend on the load of the machine."""
        count = 0

        def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
            nonlocal count
            count += event == "line"
            return trace

        async with MemoryQueueStorage() as storage:
            worker = await register_worker(storage)
            await storage.add([new_job(priority=n % 3) for n in range(waiting)])
            # Half of the jobs leave the line otherwise: a claim must not search past them either.
            await storage.abort([record.id for record in (await storage.find(JobFilter(), limit=waiting // 2)).jobs])
            before = sys.gettrace()
            sys.settrace(trace)
            try:
                await claim_one(storage, worker)
            finally:
                sys.settrace(before)
        return count

    assert await lines_run(2000) == await lines_run(20)
