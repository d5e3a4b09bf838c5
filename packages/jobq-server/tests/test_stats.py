"""The counts of a server, and its report on other workers."""

from __future__ import annotations

from typing import Any

import pytest

from jobq_client import JobQueueClient
from jobq_core import JobCompleted, JobFailed, JobState, WorkerInfo, WorkerStats, job
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.storage import WAITING_TOPIC
from jobq_server import JobQueueServer, PoolStats


async def run_some(client: JobQueueClient, server: JobQueueServer, bench: Any, good: int, bad: int) -> None:
    """Run jobs until this many have completed and failed, and the server has recorded it."""
    async with server.events(JobCompleted, JobFailed) as ends:
        await client.add_many([bench.quick(n=n) for n in range(good)])
        await client.add_many([bench.broken(n=n) for n in range(bad)])
        for _ in range(good + bad):
            await anext(ends)


def sums(pool: PoolStats) -> tuple[int, int]:
    """Return the sums over the workers of the pool."""
    return sum(w.stats.completed for w in pool.workers), sum(w.stats.failed for w in pool.workers)


async def test_the_total_is_the_sum_over_the_pools_workers(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs, worker_count=3) as server:
        await run_some(client, server, bench, 30, 6)
        pool = server.pool_stats()
    assert [worker.number for worker in pool.workers] == [1, 2, 3]
    assert sums(pool) == (30, 6)


async def test_each_worker_of_the_pool_shows_what_it_runs(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs, worker_count=3) as server:
        handles = await client.add_many([bench.held(n=n) for n in range(2)])
        await bench.until(lambda b: b.running == 2)
        workers = server.pool_stats().workers
        assert {worker.job_id for worker in workers} == {handles[0].id, handles[1].id, None}
        assert sorted(worker.kind or "" for worker in workers) == ["", "held", "held"]
        assert server.pool_stats().total.running == 2
        bench.open()


async def test_statistics_survive_a_stop(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueClient(storage) as client:
        async with JobQueueServer(storage, jobs=bench.jobs, worker_count=2) as server:
            await run_some(client, server, bench, 10, 2)
        pool, stats = server.pool_stats(), await server.stats()
    assert (pool.total.completed, pool.total.failed) == (10, 2)
    assert sums(pool) == (10, 2)
    assert stats.pool == pool
    assert stats.total == pool.total
    assert stats.workers == ()


async def test_statistics_survive_a_restart(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    async with JobQueueClient(storage) as client:
        for _ in range(3):
            async with server:
                await run_some(client, server, bench, 5, 1)
    total = server.pool_stats().total
    assert (total.completed, total.failed, total.running) == (15, 3, 0)


async def test_statistics_survive_a_change_of_the_number_of_workers(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs, worker_count=6) as server:
        await run_some(client, server, bench, 24, 0)
        server.scale(1)
        assert server.pool_stats().total.completed == 24
        assert len(server.pool_stats().workers) == 1
        await run_some(client, server, bench, 6, 0)
        server.scale(4)
        assert len(server.pool_stats().workers) == 4
        assert server.pool_stats().total.completed == 30


async def test_averages_weigh_jobs_and_not_workers(storage: MemoryQueueStorage) -> None:
    busy = WorkerStats(completed=98, failed=1, retried=1, busy_seconds=100.0)
    lazy = WorkerStats(completed=1, busy_seconds=50.0)
    for stats in (busy, lazy):
        info = other_worker()
        await storage.register(info)
        heartbeat = storage.heartbeat(info)
        assert heartbeat.beat(stats)
        heartbeat.close()
    total = (await JobQueueServer(storage, jobs=[]).stats()).total
    assert total.average_seconds == pytest.approx(150 / 101)  # and not the mean of 1 and 50


def other_worker() -> WorkerInfo:
    """Return another worker process."""
    return WorkerInfo(
        id=new_id(), name="far", host="far", pid=7, queues=("x",), kinds=(), concurrency=5, lost_after=30.0
    )


async def test_it_reports_every_worker_of_the_storage_and_the_sums(storage: MemoryQueueStorage, bench: Any) -> None:
    async with (
        JobQueueClient(storage) as client,
        JobQueueServer(storage, jobs=bench.jobs, name="one", worker_count=2) as one,
        JobQueueServer(storage, jobs=bench.jobs, name="two", queues=["else"]) as two,
    ):
        far = other_worker()
        await storage.register(far)
        heartbeat = storage.heartbeat(far)
        heartbeat.beat(WorkerStats(completed=1000, unknown_kinds={"strange": 3}))
        await run_some(client, one, bench, 7, 1)
        one.scale(4)
        stats = await one.stats()
        assert [worker.info.name for worker in stats.workers] == ["one", "two", "far"]
        assert stats.workers[0].info.id == one.id
        assert (stats.workers[0].slots, stats.workers[0].stats.completed) == (4, 7)
        assert (stats.total.completed, stats.total.failed) == (1007, 1)
        assert stats.total.unknown_kinds == {"strange": 3}
        assert stats.workers[2].expires_at > stats.at > stats.workers[2].started_at
        assert (await two.stats()).workers[1].info.id == two.id
        heartbeat.close()


async def test_it_counts_the_jobs_of_each_queue_by_state(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs) as server:
        await run_some(client, server, bench, 3, 2)
        await client.add_many([bench.quick(n=n) for n in range(4)], queue="later")
        counts = (await server.stats()).counts
    assert (counts["default"][JobState.COMPLETED], counts["default"][JobState.FAILED]) == (3, 2)
    assert counts["later"][JobState.PENDING] == 4


async def test_jobs_of_an_unknown_kind_are_counted(storage: MemoryQueueStorage, bench: Any) -> None:
    @job()
    async def strange() -> None: ...

    async with JobQueueClient(storage) as client, JobQueueServer(storage, jobs=bench.jobs) as server:
        async with storage.subscribe([WAITING_TOPIC]) as ear:
            handle = await client.add(strange())
            await ear.wait()  # until it was put among those that wait for somebody who knows the kind
        await run_some(client, server, bench, 1, 0)
        record = await client.get(handle)
        assert record is not None
        assert record.state is JobState.BLOCKED
        assert (await server.stats()).total.unknown_kinds == {"strange": 1}
        assert server.pool_stats().total.unknown_kinds == {"strange": 1}
