"""The life of a server: it starts, runs jobs, stops, and starts again."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from typing import Any

import pytest

from jobq_client import JobQueueClient
from jobq_core import (
    ClosedError,
    ConcurrencyLimiter,
    ConfigurationError,
    Job,
    JobState,
    StorageUnavailableError,
    WorkerStopped,
    job,
)
from jobq_core.memory import MemoryQueueStorage
from jobq_server import JobQueueServer
from jobq_worker import JobQueueWorker, WorkerOptions


@job()
class Thumbnail(Job[str]):
    path: str


async def test_jobs_added_before_a_server_starts_run_when_it_starts(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueClient(storage) as client:
        handles = await client.add_many([bench.quick(n=n) for n in range(20)])
        async with JobQueueServer(storage, jobs=bench.jobs, worker_count=3):
            results = await asyncio.gather(*(client.wait_for(handle, timeout=20) for handle in handles))
    assert results == list(range(20))
    assert set(bench.runs.values()) == {1}


async def test_it_starts_stops_and_starts_again(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    async with JobQueueClient(storage) as client:
        for n in range(3):
            assert server.health().state in ("new", "stopped")
            await server.start()
            assert server.health().healthy
            assert await client.wait_for(await client.add(bench.quick(n=n)), timeout=20) == n
            await server.stop()
    assert await storage.workers() == []


async def test_each_start_is_a_new_identity(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    async with server:
        first = server.id
    async with server:
        assert server.id not in (None, first)


async def test_starting_a_running_server_changes_nothing(bench: Any) -> None:
    server = JobQueueServer("memory://", jobs=bench.jobs)
    await asyncio.gather(server.start(), server.start())
    first = server.id
    await server.start()
    assert server.id == first
    assert server.health().healthy
    await server.stop()


def test_a_server_is_a_worker() -> None:
    server = JobQueueServer("memory://", worker_count=3)
    assert isinstance(server, JobQueueWorker)
    assert (server.worker_count, server.concurrency) == (3, 3)


def test_its_options_may_be_one_checked_value() -> None:
    options = WorkerOptions(concurrency=3, name="pool")
    server = JobQueueServer("memory://", options)
    assert (server.worker_count, server.name) == (3, "pool")
    with pytest.raises(ConfigurationError, match="worker_count: give either options or keywords"):
        JobQueueServer("memory://", options, worker_count=3)


def test_without_a_storage_the_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBQ_STORAGE", "memory://named")
    assert JobQueueServer().storage.url == "memory://named"
    monkeypatch.delenv("JOBQ_STORAGE")
    with pytest.raises(ConfigurationError, match="JOBQ_STORAGE"):
        _ = JobQueueServer().storage  # it may be made without: the command line may name one


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"concurrency": 3}, "JobQueueServer has no option 'concurrency'; here it is called 'worker_count'"),
        ({"lost_aftr": 3}, "JobQueueServer has no option 'lost_aftr'; did you mean lost_after?"),
        ({"worker_count": "many"}, "worker_count must be a whole number"),
    ],
)
def test_an_unknown_option_is_refused_with_the_right_name(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(error)):
        JobQueueServer("memory://", **options)


async def test_a_stop_while_it_starts_stops_it(bench: Any) -> None:
    server = JobQueueServer("memory://", jobs=bench.jobs)
    await asyncio.gather(server.start(), server.stop())
    assert server.health().state == "stopped"
    with pytest.raises(ClosedError):
        await server.storage.now()


async def test_stops_at_once_and_a_restart_leave_it_running(bench: Any) -> None:
    server = JobQueueServer("memory://", jobs=bench.jobs)
    await server.start()

    async def restart() -> None:
        await server.stop()
        await server.start()

    await asyncio.gather(server.stop(), restart(), server.stop())
    assert server.health().healthy
    await server.storage.now()
    await server.stop()


async def test_stopping_while_idle_is_immediate(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs, stop_timeout=600)
    await server.start()
    await server.stop()  # which would not end within the test's time if it waited for its timeout
    assert server.health().state == "stopped"


async def test_a_stop_lets_running_jobs_end(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs, worker_count=2)
    async with JobQueueClient(storage) as client:
        await server.start()
        handles = await client.add_many([bench.held(n=n) for n in range(4)])
        await bench.until(lambda b: b.running == 2)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        bench.open()
        await stopping
        states = [record.state for handle in handles if (record := await client.get(handle))]
    assert states == [JobState.COMPLETED] * 2 + [JobState.PENDING] * 2
    assert sum(bench.runs.values()) == 2


async def test_a_stop_hands_unfinished_jobs_back_at_its_timeout(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    async with JobQueueClient(storage) as client:
        await server.start()
        handle = await client.add(bench.held(n=1))
        await bench.until(lambda b: b.running == 1)
        await server.stop(timeout=0)
        record = await client.get(handle)
    assert record is not None
    assert (record.state, record.attempt) == (JobState.PENDING, 0)
    assert bench.running == 0


async def test_a_second_stop_hurries_the_first(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    async with JobQueueClient(storage) as client:
        await server.start()
        await client.add(bench.held(n=1))
        await bench.until(lambda b: b.running == 1)
        first = asyncio.create_task(server.stop(timeout=3600))
        await asyncio.sleep(0)
        await server.stop(timeout=0)
        await first


async def test_after_a_stop_nothing_is_claimed(counting_storage: Any, bench: Any) -> None:
    server = JobQueueServer(counting_storage, jobs=bench.jobs)
    await server.start()
    await server.stop()
    counting_storage.calls.clear()
    async with JobQueueClient(counting_storage) as client:
        handle = await client.add(bench.quick(n=1))
        assert await client.size() == 1
        record = await client.get(handle)
    assert record is not None
    assert record.state is JobState.PENDING
    assert counting_storage.calls["settle_and_claim"] == 0


async def test_a_server_that_starts_does_not_run_a_job_that_another_runs(
    storage: MemoryQueueStorage, bench: Any
) -> None:
    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs):
        held = await client.add(bench.held(n=1))
        await bench.until(lambda b: b.running == 1)
        async with JobQueueServer(storage, jobs=bench.jobs) as second:
            # Once this is done, all waiting jobs were claimed; a claimable job 1 would have been the first.
            await client.wait_for(await client.add(bench.quick(n=2)), timeout=20)
            assert bench.runs[1] == 1
            bench.open()
            await client.wait_for(held, timeout=20)
            assert second.pool_stats().total.finished <= 1
    assert bench.runs == {1: 1, 2: 1}


async def test_a_restart_of_a_server_does_not_run_a_job_that_another_runs(
    storage: MemoryQueueStorage, bench: Any
) -> None:
    restarted = JobQueueServer(storage, jobs=bench.jobs, worker_count=0)
    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs), restarted:
        held = await client.add(bench.held(n=1))
        await bench.until(lambda b: b.running == 1)
        await restarted.stop()
        restarted.scale(5)
        await restarted.start()
        await client.wait_for(await client.add(bench.quick(n=2)), timeout=20)
        assert bench.runs[1] == 1
        bench.open()
        assert await client.wait_for(held, timeout=20) == 1
    assert bench.runs == {1: 1, 2: 1}


async def test_a_limit_of_2_holds_for_a_pool_of_10(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs, worker_count=10, limiter=ConcurrencyLimiter(2))
    async with JobQueueClient(storage) as client, server:
        handles = await client.add_many([bench.quick(n=n) for n in range(60)])
        assert [await client.wait_for(handle, timeout=30) for handle in handles] == list(range(60))
    assert bench.most_running == 2


class BrokenStorage(MemoryQueueStorage):
    """Unavailable while `broken` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self.failed = asyncio.Event()

    async def settle_and_claim(self, *arguments: Any, **named: Any) -> Any:
        if self.broken:
            self.failed.set()
            raise StorageUnavailableError("the database is being moved")
        return await super().settle_and_claim(*arguments, **named)


async def test_an_outage_of_the_storage_is_reported_by_health_and_loses_nothing(bench: Any) -> None:
    async with (
        BrokenStorage() as storage,
        JobQueueClient(storage) as client,
        JobQueueServer(storage, jobs=bench.jobs) as server,
    ):
        held = await client.add(bench.held(n=1))
        await bench.until(lambda b: b.running == 1)
        storage.broken = True
        waiting = await client.add_many([bench.quick(n=n) for n in (2, 3, 4)])
        bench.open()
        await storage.failed.wait()
        await bench.until(lambda b: b.running == 0)
        await asyncio.sleep(0)
        health = server.health()
        assert (health.state, health.healthy, health.storage_failing) == ("running", False, True)
        assert "the database is being moved" in (health.storage_error or "")
        storage.broken = False
        assert await client.wait_for(held, timeout=30) == 1
        assert [await client.wait_for(handle, timeout=30) for handle in waiting] == [2, 3, 4]
        assert server.health().healthy
        assert server.health().storage_errors >= 1
    assert set(bench.runs.values()) == {1}


async def test_a_handler_is_supplied_for_a_class_without_execute(storage: MemoryQueueStorage) -> None:
    server = JobQueueServer(storage, jobs=[Thumbnail])

    @server.handles(Thumbnail)
    async def make(thumbnail: Thumbnail) -> str:
        return f"small {thumbnail.path}"

    async with server, JobQueueClient(storage) as client:
        assert await client.wait_for(await client.add(Thumbnail(path="a.png")), timeout=20) == "small a.png"


async def test_several_queues_are_served_and_no_other(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs, queues=["mail", "images"], name="two queues")
    assert (server.queues, server.name) == (("mail", "images"), "two queues")
    async with server, JobQueueClient(storage) as client:
        other = await client.add(bench.quick(n=0), queue="sound")
        for n, queue in enumerate(("mail", "images"), start=1):
            assert await client.wait_for(await client.add(bench.quick(n=n), queue=queue), timeout=20) == n
        record = await client.get(other)
    assert record is not None
    assert record.state is JobState.PENDING


async def test_a_storage_given_by_url_is_opened_and_closed_by_the_server(bench: Any) -> None:
    server = JobQueueServer("memory://", jobs=bench.jobs)
    with pytest.raises(ClosedError):
        await server.stats()
    async with server:
        assert (await server.stats()).workers[0].info.id == server.id
    with pytest.raises(ClosedError):
        await server.storage.now()


async def test_a_storage_object_stays_open(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueServer(storage, jobs=bench.jobs):
        pass
    await storage.now()


async def test_a_server_that_cannot_start_leaves_nothing_open() -> None:
    server = JobQueueServer("memory://")
    with pytest.raises(ConfigurationError, match="has no job to run"):
        await server.start()
    with pytest.raises(ClosedError):
        await server.storage.now()
    assert server.health().state == "new"


async def test_run_serves_until_a_signal_and_drains(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    async with JobQueueClient(storage) as client:
        serving = asyncio.create_task(server.run())
        handle = await client.add(bench.held(n=1))
        await bench.until(lambda b: b.running == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        bench.open()
        await serving
        assert await client.wait_for(handle, timeout=0) == 1


async def test_run_ends_when_the_server_is_stopped(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    async with JobQueueClient(storage) as client:
        serving = asyncio.create_task(server.run())
        assert await client.wait_for(await client.add(bench.quick(n=1)), timeout=20) == 1
        stopped = server.next_event(WorkerStopped)
        await server.stop()
        await serving
        assert (await stopped).stats.completed == 1


async def test_waiting_for_an_event_ends_with_the_server(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueServer(storage, jobs=bench.jobs) as server:
        stream = server.events()
    events = [event async for event in stream]
    assert [type(event) for event in events] == [WorkerStopped]


@pytest.mark.parametrize(
    "options",
    [
        {"worker_count": -1},
        {"worker_count": 2.0},
        {"worker_count": True},
        {"worker_count": 100_001},
        {"limiter": 5},
        {"jobs": 5},
        {"queues": "mail"},
        {"queues": []},
        {"lost_after": 1.0, "heartbeat_interval": 1.0},
        {"poll_interval": 0},
        {"stop_timeout": -1},
    ],
)
async def test_invalid_options_are_refused(storage: MemoryQueueStorage, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        JobQueueServer(storage, **options)
