"""The number of workers, changed while jobs flow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobq_client import JobQueueClient
from jobq_core import ConfigurationError, JobState
from jobq_core.memory import MemoryQueueStorage
from jobq_server import JobQueueServer


async def test_scaling_2_6_1_while_500_jobs_flow_runs_each_once(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs, worker_count=2) as server:
        handles = await client.add_many([bench.quick(n=n) for n in range(500)])
        for enough, worker_count in ((100, 6), (300, 1)):
            await bench.until(lambda b, enough=enough: len(b.runs) >= enough)
            server.scale(worker_count)
            assert server.worker_count == worker_count
            assert len(server.pool_stats().workers) == worker_count
        results = await asyncio.gather(*(client.wait_for(handle, timeout=40) for handle in handles))
        total = server.pool_stats().total
    assert results == list(range(500))
    assert set(bench.runs.values()) == {1}
    assert bench.most_running <= 6
    assert (total.completed, total.finished) == (500, 500)


async def test_scaling_up_starts_more_at_once(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs, worker_count=2) as server:
        await client.add_many([bench.held(n=n) for n in range(9)])
        await bench.until(lambda b: b.running == 2)
        server.scale(6)
        await bench.until(lambda b: b.running == 6)
        bench.open()
        await bench.until(lambda b: len(b.runs) == 9)
    assert bench.most_running == 6


async def test_scaling_down_lets_running_jobs_end_and_starts_no_more_than_wanted(
    storage: MemoryQueueStorage, bench: Any
) -> None:
    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs, worker_count=4) as server:
        first = await client.add_many([bench.held(n=n) for n in range(4)])
        await bench.until(lambda b: b.running == 4)
        server.scale(1)
        assert server.health().running == 4
        bench.open()
        assert [await client.wait_for(handle, timeout=20) for handle in first] == [0, 1, 2, 3]
        bench.most_running = 0
        more = await client.add_many([bench.quick(n=n) for n in range(10, 40)])
        assert [await client.wait_for(handle, timeout=20) for handle in more] == list(range(10, 40))
    assert bench.most_running == 1
    assert set(bench.runs.values()) == {1}


async def test_scaling_to_0_pauses_until_it_is_scaled_up(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs, worker_count=2) as server:
        running = await client.add(bench.held(n=0))
        await bench.until(lambda b: b.running == 1)
        server.scale(0)
        waiting = await client.add_many([bench.quick(n=n) for n in (1, 2, 3)])
        bench.open()
        assert await client.wait_for(running, timeout=20) == 0
        # A server of another queue is as quick: anything that the paused server would claim is claimed by now.
        async with JobQueueServer(storage, jobs=bench.jobs, queues=["other"]):
            await client.wait_for(await client.add(bench.quick(n=9), queue="other"), timeout=20)
        assert (await client.counts())[JobState.PENDING] == 3
        assert server.health().healthy
        server.scale(1)
        assert [await client.wait_for(handle, timeout=20) for handle in waiting] == [1, 2, 3]


async def test_a_server_can_be_made_paused_and_scaled_before_it_starts(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs, worker_count=0)
    server.scale(3)
    async with JobQueueClient(storage) as client, server:
        await client.add_many([bench.held(n=n) for n in range(5)])
        await bench.until(lambda b: b.running == 3)
        bench.open()
        await bench.until(lambda b: len(b.runs) == 5)
    assert bench.most_running == 3


async def test_the_storage_knows_the_number_of_workers(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueServer(storage, jobs=bench.jobs, worker_count=2) as server:
        assert [worker.slots for worker in await storage.workers()] == [2]
        server.scale(5)
        assert [worker.slots for worker in (await server.stats()).workers] == [5]


@pytest.mark.parametrize("wrong", [-1, 1.5, 2.0, True, "3", None])
async def test_an_invalid_number_of_workers_is_refused(storage: MemoryQueueStorage, bench: Any, wrong: Any) -> None:
    async with JobQueueServer(storage, jobs=bench.jobs, worker_count=2) as server:
        with pytest.raises(ConfigurationError, match="worker_count must be a whole number, 0 or more"):
            server.scale(wrong)
        assert server.worker_count == 2
