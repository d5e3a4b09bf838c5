"""`JobQueue` is the same program on memory, SQLite and PostgreSQL, and its parts may be in different processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from shop_jobs import add_up, count, in_steps, say_pid
from watching import Gate, Log

from jobq_core import (
    AbortSignalJobError,
    JobAborted,
    JobAdded,
    JobCompleted,
    JobFailed,
    JobStarted,
    JobState,
    PermanentJobError,
    Progress,
    RunEvent,
    job,
    open_storage,
)
from jobq_server import JobQueue, JobQueueServer, QueueMode, QueueModeError


@job(max_attempts=1)
async def broken(why: str) -> None:
    raise PermanentJobError(why)


JOBS = [add_up, broken, count, in_steps, say_pid]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def any_url(request: pytest.FixtureRequest) -> str | None:
    """The storage of a JobQueue: None for memory, or a URL."""
    if request.param == "memory":
        return None
    url = str(request.getfixturevalue(f"{request.param}_url"))
    await open_storage(url).migrate()
    return url


async def test_the_same_program_runs_on_every_storage(any_url: str | None, tmp_path: Path) -> None:
    queue = JobQueue("shop", jobs=JOBS, storage=any_url, worker_count=3)
    ends: Counter[tuple[str, object]] = Counter()
    queue.on(RunEvent, lambda event: ends.update([(type(event).__name__, event.job_id)]))
    async with queue:
        # It adds, runs and waits.
        handle = await queue.add(add_up(a=2, b=3), priority=5, tags=["sum"])
        assert await queue.wait_for(handle, timeout=30) == 5
        handles = await queue.add_many([add_up(a=n, b=n) for n in range(50)], run_id="many")
        assert await asyncio.gather(*(queue.wait_for(h, timeout=30) for h in handles)) == [2 * n for n in range(50)]
        # wait_for raises the failure.
        failing = await queue.add(broken(why="on purpose"))
        with pytest.raises(PermanentJobError, match="on purpose"):
            await queue.wait_for(failing, timeout=30)
        # Progress is followed.
        stepping = await queue.add(in_steps(folder=str(tmp_path)))
        seen: asyncio.Queue[Progress] = asyncio.Queue()
        queue.on_progress(stepping, seen.put_nowait)
        for percent in (10, 50, 90):
            Gate(tmp_path / str(percent)).open()
            assert (await asyncio.wait_for(seen.get(), timeout=30)).percent == percent
        # A running job is aborted, and retried.
        assert await queue.abort(stepping)
        with pytest.raises(AbortSignalJobError):
            await queue.wait_for(stepping, timeout=30)
        Gate(tmp_path / "end").open()
        assert await queue.retry(stepping)
        assert await queue.wait_for(stepping, timeout=30) == "all steps"
        # Jobs are found and counted.
        record = await queue.get(handle)
        assert record is not None
        assert (record.queue, record.priority, record.result) == ("shop", 5, 5)
        assert [found.id for found in (await queue.find(tag="sum")).jobs] == [handle.id]
        assert len((await queue.find(run_id="many", state=JobState.COMPLETED)).jobs) == 50
        assert (await queue.counts())[JobState.FAILED] == 1
        # Its workers are scaled and counted.
        queue.scale(0)
        waiting = await queue.add(add_up(a=1, b=1))
        assert await queue.size() == 1
        queue.scale(2)
        assert await queue.wait_for(waiting, timeout=30) == 2
        assert queue.health().healthy
    total = queue.server.pool_stats().total
    assert (total.completed, total.failed, total.aborted, total.running) == (53, 1, 1, 0)
    # Each end was reported once, although client and server both saw it.
    for event in (JobCompleted, JobFailed, JobAborted):
        told = {ids: n for (name, ids), n in ends.items() if name == event.__name__}
        assert set(told.values()) == {1}, event
    assert ends["JobStarted", stepping.id] == 2


async def test_a_restarted_queue_still_has_its_jobs(any_url: str | None) -> None:
    queue = JobQueue("shop", jobs=JOBS, storage=any_url, worker_count=0)
    async with queue:
        handle = await queue.add(add_up(a=1, b=2))
    queue.scale(1)
    for _ in range(2):
        async with queue:
            assert await queue.wait_for(handle, timeout=30) == 3
    assert queue.server.pool_stats().total.completed == 1


async def test_the_next_jobs_are_those_that_are_claimed_next(any_url: str | None) -> None:
    queue = JobQueue("shop", jobs=JOBS, storage=any_url, worker_count=1)
    await queue.start(QueueMode.CLIENT)
    handles = [await queue.add(add_up(a=n, b=n), priority=priority) for n, priority in enumerate((0, -1, 9, 0))]
    await queue.add(add_up(a=9, b=9), delay=3600)
    order = [handles[n].id for n in (2, 0, 3, 1)]
    assert [record.id for record in await queue.peek(3)] == order[:3]
    assert [record.id for record in await queue.peek(1000)] == order
    assert await queue.clear() == 5
    assert await queue.peek() == []
    await queue.stop()
    assert queue.mode is QueueMode.BOTH


async def test_two_queues_in_one_storage_have_separate_jobs(migrated_url: str) -> None:
    async with (
        JobQueue("one", jobs=JOBS, storage=migrated_url) as one,
        JobQueue("two", jobs=JOBS, storage=migrated_url, worker_count=0) as two,
    ):
        theirs = await two.add(add_up(a=1, b=1))
        ours = await one.add(add_up(a=2, b=2))
        assert await one.wait_for(ours, timeout=30) == 4
        assert [record.id for record in (await one.find()).jobs] == [ours.id]
        assert [record.id for record in (await two.find()).jobs] == [theirs.id]
        assert await two.size() == 1


SERVE = """
import asyncio, sys
import shop_jobs
from jobq_core import WorkerStarted
from jobq_server import JobQueue

async def main(url):
    queue = JobQueue("shop", jobs=shop_jobs, storage=url, mode="server", worker_count=2)
    queue.on(WorkerStarted, lambda event: print("serving"))
    await queue.run()
    print("completed", queue.server.pool_stats().total.completed)

asyncio.run(main(sys.argv[1]))
"""


async def test_a_client_here_and_a_server_there(migrated_url: str, children: Any, tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    child = children.python("-c", SERVE, migrated_url)
    child.wait_for_line("serving")
    async with JobQueue("shop", storage=migrated_url, mode=QueueMode.CLIENT) as queue:
        with pytest.raises(QueueModeError):
            queue.scale(2)
        stream = queue.events(JobAdded, JobCompleted, JobStarted)
        handle = await queue.add(say_pid(log=str(log)))
        assert await queue.wait_for(handle, timeout=30) == child.process.pid
        child.terminate()
        assert child.wait() == 0
        assert "completed 1" in child.output
        later = await queue.add(say_pid(log=str(log)))
        assert await queue.size() == 1
    assert [(type(event), event.job_id) async for event in stream] == [
        (JobAdded, handle.id),
        (JobCompleted, handle.id),
        (JobAdded, later.id),
    ]


async def test_the_end_of_a_job_in_another_process_is_reported_once_in_mode_both(
    migrated_url: str, children: Any, tmp_path: Path
) -> None:
    child = children.python("-c", SERVE, migrated_url)
    child.wait_for_line("serving")
    log = Log(tmp_path / "log")
    told: Counter[object] = Counter()
    async with JobQueue("shop", jobs=JOBS, storage=migrated_url, worker_count=1) as queue:
        queue.on(JobCompleted, lambda event: told.update([event.job_id]))
        handles = await queue.add_many([say_pid(log=str(log)) for _ in range(300)])
        await asyncio.gather(*(queue.wait_for(handle, timeout=60) for handle in handles))
        # The server reports its own jobs after the storage has answered, which may be after the waiter's event.
        wanted = {handle.id for handle in handles}
        async with asyncio.timeout(30):
            while not wanted <= set(told):
                await queue.wait_for(await queue.add(add_up(a=1, b=1)), timeout=30)
    assert set(told.values()) == {1}
    assert len(log.lines) == 300


async def test_statistics_show_the_workers_of_other_processes(migrated_url: str, children: Any) -> None:
    child = children.jobq("server", "shop_jobs", "--storage", migrated_url, "--queue", "shop", "--name", "far")
    child.wait_for_line("started")
    async with JobQueueServer(migrated_url, jobs=JOBS, queues=["shop"], name="near", worker_count=3) as server:
        stats = await server.stats()
    assert [(w.info.name, w.info.concurrency) for w in stats.workers] == [("far", 10), ("near", 3)]
    assert stats.workers[0].info.pid == child.process.pid
    assert all(worker.expires_at > stats.at for worker in stats.workers)
