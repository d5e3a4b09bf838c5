"""`JobQueue` on memory. tests-integration runs the same program on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest

from jobq_core import (
    ClosedError,
    ConfigurationError,
    Job,
    JobCompleted,
    JobContext,
    JobFailed,
    JobState,
    PermanentJobError,
    Progress,
    RateLimiter,
    Retention,
    WorkerStarted,
    job,
    provided,
)
from jobq_core.memory import MemoryQueueStorage
from jobq_server import JobQueue, QueueMode, QueueModeError


@job()
class Resize(Job[str]):
    path: str


class Pool:
    """A resource."""


async def outcome_of(call: Any, *arguments: Any) -> Any:
    """Return the result of a sync or async call."""
    outcome = call(*arguments)
    return await outcome if asyncio.iscoroutine(outcome) else outcome


async def test_it_adds_runs_and_waits(bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs) as queue:
        assert (queue.name, queue.mode) == ("mail", QueueMode.BOTH)
        handle = await queue.add(bench.quick(n=7), priority=3)
        assert await queue.wait_for(handle, timeout=20) == 7
        record = await queue.get(handle)
        assert record is not None
        assert (record.queue, record.priority, record.state) == ("mail", 3, JobState.COMPLETED)


async def test_its_storage_is_memory_unless_another_is_given(bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs) as queue, JobQueue("mail", jobs=bench.jobs) as other:
        assert isinstance(queue.storage, MemoryQueueStorage)
        await queue.wait_for(await queue.add(bench.quick(n=7)), timeout=20)
        assert (await other.counts())[JobState.COMPLETED] == 0


async def test_a_client_adds_and_waits_and_runs_nothing(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueue("mail", storage=storage, mode=QueueMode.CLIENT) as queue:
        handle = await queue.add(bench.quick(n=7))
        assert await queue.size() == 1
        assert await storage.workers() == []
        waiting = asyncio.create_task(queue.wait_for(handle))
        async with JobQueue("mail", jobs=bench.jobs, storage=storage, mode=QueueMode.SERVER):
            assert await waiting == 7


@pytest.mark.parametrize(
    "call",
    [
        lambda queue, job: queue.scale(2),
        lambda queue, job: queue.stats(),
        lambda queue, job: queue.health(),
        lambda queue, job: queue.handles(Resize),
        lambda queue, job: queue.run(),
        lambda queue, job: queue.server,
    ],
    ids=["scale", "stats", "health", "handles", "run", "server"],
)
async def test_a_client_refuses_calls_on_the_server(storage: MemoryQueueStorage, bench: Any, call: Any) -> None:
    async with JobQueue("mail", storage=storage, mode=QueueMode.CLIENT) as queue:
        with pytest.raises(QueueModeError, match=r"mode=QueueMode.CLIENT.*QueueMode.BOTH.*`jobq server`"):
            await outcome_of(call, queue, bench.quick(n=1))


async def test_a_server_runs_jobs_that_others_add(storage: MemoryQueueStorage, bench: Any) -> None:
    async with (
        JobQueue("mail", jobs=bench.jobs, storage=storage, mode="server", worker_count=2) as queue,  # a name will do
        JobQueue("mail", storage=storage, mode="client") as adding,
    ):
        handles = await adding.add_many([bench.quick(n=n) for n in range(10)])
        assert [await adding.wait_for(handle, timeout=20) for handle in handles] == list(range(10))
        queue.scale(4)
        assert queue.server.worker_count == 4
        assert (await queue.stats()).counts["mail"][JobState.COMPLETED] == 10


@pytest.mark.parametrize(
    "call",
    [
        lambda queue, job: queue.add(job),
        lambda queue, job: queue.add_many([job]),
        lambda queue, job: queue.wait_for("0192f0c1-5e6b-7c3a-9f00-000000000000"),
        lambda queue, job: queue.abort("0192f0c1-5e6b-7c3a-9f00-000000000000"),
        lambda queue, job: queue.on_progress("0192f0c1-5e6b-7c3a-9f00-000000000000", print),
        lambda queue, job: queue.client,
    ],
    ids=["add", "add_many", "wait_for", "abort", "on_progress", "client"],
)
async def test_a_server_refuses_calls_on_the_client(storage: MemoryQueueStorage, bench: Any, call: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs, storage=storage, mode=QueueMode.SERVER) as queue:
        with pytest.raises(QueueModeError, match=r"'mail'.*mode=QueueMode.SERVER.*QueueMode.BOTH.*JobQueueClient"):
            await outcome_of(call, queue, bench.quick(n=1))
        assert await storage.counts() == {}


async def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="client, server, both"):
        JobQueue("mail", mode="everything")
    for wrong in ([], 10**5000):  # neither can be looked up in an enumeration, or shown
        with pytest.raises(ConfigurationError, match="client, server, both"):
            JobQueue("mail", mode=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "x" * 256, 7])
async def test_an_invalid_name_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="the name of a queue"):
        JobQueue(name)


async def test_its_jobs_go_to_its_own_queue_whatever_they_declare() -> None:
    @job(queue="elsewhere")
    async def declared() -> str:
        return "done"

    async with JobQueue("mail", jobs=[declared]) as queue:
        handle = await queue.add(declared())
        assert await queue.wait_for(handle, timeout=20) == "done"
        (many,) = await queue.add_many([declared()])
        assert await queue.wait_for(many, timeout=20) == "done"
        assert {handle.queue, many.queue} == {"mail"}
        assert (await queue.add(declared(), queue="other")).queue == "other"


async def test_two_queues_in_one_storage_do_not_see_each_others_jobs(storage: MemoryQueueStorage, bench: Any) -> None:
    async with (
        JobQueue("mail", jobs=bench.jobs, storage=storage) as mail,
        JobQueue("images", jobs=bench.jobs, storage=storage, worker_count=0) as images,
    ):
        theirs = await images.add(bench.quick(n=1))
        ours = await mail.add(bench.quick(n=2))
        assert await mail.wait_for(ours, timeout=20) == 2
        assert [record.id for record in (await mail.find()).jobs] == [ours.id]
        assert [record.id for record in (await images.find()).jobs] == [theirs.id]
        assert (await images.size(), await mail.size()) == (1, 0)


async def test_it_starts_again_and_its_jobs_in_memory_are_still_there(bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs, worker_count=0)
    async with queue:
        handle = await queue.add(bench.quick(n=7))
    queue.scale(1)
    async with queue:
        assert await queue.wait_for(handle, timeout=20) == 7


async def test_starting_a_running_queue_changes_nothing(bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs) as queue:
        await asyncio.gather(queue.start(), queue.start(QueueMode.BOTH))
        assert await queue.wait_for(await queue.add(bench.quick(n=7)), timeout=20) == 7
    with pytest.raises(ClosedError):
        await queue.counts()


async def test_the_mode_of_a_start_holds_until_the_stop(storage: MemoryQueueStorage, bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs, storage=storage)
    await queue.start(QueueMode.CLIENT)
    assert queue.mode is QueueMode.CLIENT
    handle = await queue.add(bench.quick(n=7))
    assert await storage.workers() == []
    with pytest.raises(QueueModeError):
        queue.scale(2)
    with pytest.raises(ConfigurationError, match="runs in mode 'client'; stop it before it starts in mode 'both'"):
        await queue.start("both")
    await queue.start()  # it runs
    assert queue.mode is QueueMode.CLIENT
    await queue.stop()
    assert queue.mode is QueueMode.BOTH
    async with queue:
        assert await queue.wait_for(handle, timeout=20) == 7


async def test_a_client_can_be_started_as_a_server_once(storage: MemoryQueueStorage, bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs, storage=storage, mode="client")
    await queue.start("server")
    with pytest.raises(QueueModeError):
        await queue.add(bench.quick(n=1))
    assert len(await storage.workers()) == 1
    await queue.stop()
    assert queue.mode is QueueMode.CLIENT


async def test_a_start_in_an_unknown_mode_is_refused(bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs)
    with pytest.raises(ConfigurationError, match="client, server, both"):
        await queue.start("everything")
    assert not queue.is_running


async def test_a_restart_keeps_the_mode_and_starts_a_stopped_queue(bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs)
    await queue.start(QueueMode.CLIENT)
    handle = await queue.add(bench.quick(n=7))
    await queue.restart()
    assert queue.mode is QueueMode.CLIENT
    await queue.stop()
    await queue.restart()
    assert queue.mode is QueueMode.BOTH
    assert await queue.wait_for(handle, timeout=20) == 7
    first = queue.server.id
    await queue.restart(timeout=0)
    assert queue.server.id != first
    assert queue.health().healthy
    await queue.stop()


async def test_a_second_stop_shortens_the_first(bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs)
    await queue.start()
    await queue.add(bench.held(n=1))
    await bench.until(lambda b: b.running == 1)
    first = asyncio.create_task(queue.stop(timeout=3600))
    await asyncio.sleep(0)
    await queue.stop(timeout=0)
    await first
    assert not queue.is_running
    with pytest.raises(ClosedError):
        await queue.storage.now()


@pytest.mark.parametrize("mode", list(QueueMode))
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"lost_aftr": 3}, "JobQueue has no option 'lost_aftr'; did you mean lost_after?"),
        ({"concurrency": 3}, "JobQueue has no option 'concurrency'; here it is called 'worker_count'"),
        ({"queues": ["a"]}, "JobQueue has no option 'queues': it has one queue, of its own name"),
        ({"worker_count": -1}, "worker_count must be a whole number"),
        ({"poll_interval": 0}, "poll_interval must be more than 0 seconds"),
    ],
)
async def test_options_are_checked_in_every_mode(mode: QueueMode, options: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(error)):
        JobQueue("mail", mode=mode, **options)


async def test_a_stop_while_it_starts_stops_it(bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs)
    await asyncio.gather(queue.start(), queue.stop())
    assert queue.health().state == "stopped"
    with pytest.raises(ClosedError):
        await queue.counts()


async def test_before_its_start_and_after_its_stop_it_is_closed(bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs)
    with pytest.raises(ClosedError):
        await queue.add(bench.quick(n=1))
    async with queue:
        pass
    await queue.stop()
    with pytest.raises(ClosedError):
        await queue.add(bench.quick(n=1))
    with pytest.raises(ClosedError):
        await queue.storage.now()


async def test_a_start_that_fails_leaves_nothing_running() -> None:
    queue = JobQueue("mail")
    with pytest.raises(ConfigurationError, match="has no job to run"):
        await queue.start()
    with pytest.raises(ClosedError):
        await queue.client.counts()
    with pytest.raises(ClosedError):
        await queue.storage.now()


async def test_a_storage_object_stays_open(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs, storage=storage):
        pass
    await storage.now()


async def test_a_job_may_add_another_while_the_queue_drains() -> None:
    queue = JobQueue("mail")
    gate, begun = asyncio.Event(), asyncio.Event()

    @queue.handles(Resize)
    async def resize(asked: Resize) -> str:
        begun.set()
        await gate.wait()
        return (await queue.add(Resize(path="second"))).queue

    await queue.start()
    await queue.add(Resize(path="first"))
    await begun.wait()
    stopping = asyncio.create_task(queue.stop())
    await asyncio.sleep(0)
    gate.set()
    await stopping
    queue.scale(0)
    async with queue:
        counts = await queue.counts()
    assert (counts[JobState.COMPLETED], counts[JobState.PENDING]) == (1, 1)


async def test_run_serves_until_a_signal_and_closes_all(bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs)
    started, failed = queue.next_event(WorkerStarted), queue.next_event(JobFailed)
    serving = asyncio.create_task(queue.run())
    await started
    handle = await queue.add(bench.broken(n=1))
    assert (await failed).job_id == handle.id
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    with pytest.raises(ClosedError):
        await queue.add(bench.quick(n=1))


async def test_progress_is_followed(bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs) as queue:
        handle = await queue.add(bench.half_way(n=1))
        seen: asyncio.Queue[Progress] = asyncio.Queue()
        cancel = queue.on_progress(handle, seen.put_nowait)
        assert (await seen.get()).message == "half way"
        async for progress in queue.follow(handle):
            assert progress.percent == 50
            bench.open()
        cancel()


async def test_jobs_are_controlled_through_it(bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs, worker_count=0) as queue:
        handle = await queue.add(bench.quick(n=1), tags=["a"])
        assert await queue.disable(handle)
        assert await queue.size(state=JobState.DISABLED) == 1
        assert await queue.enable(handle)
        assert await queue.abort(handle)
        assert [record.id for record in (await queue.find(state=JobState.ABORTED, tag="a")).jobs] == [handle.id]
        assert await queue.retry(handle)
        assert [record.id for record in await queue.peek(5)] == [handle.id]
        assert await queue.delete(handle)
        assert await queue.get(handle) is None


async def test_a_queue_is_paused_and_resumed_through_it(storage: MemoryQueueStorage) -> None:
    async with JobQueue("mail", storage=storage, mode="client") as queue:
        await queue.pause()
        assert [(one.name, one.paused_at is not None) for one in await storage.queues()] == [("mail", True)]
        await queue.resume()
        assert all(one.paused_at is None for one in await storage.queues())


async def test_a_run_is_aborted_and_the_queue_cleared_through_it(storage: MemoryQueueStorage, bench: Any) -> None:
    async with JobQueue("mail", storage=storage, mode="client") as queue:
        await queue.add_many([bench.quick(n=n) for n in range(3)], run_id="night")
        await queue.add(bench.quick(n=4))
        elsewhere = await queue.add(bench.quick(n=5), queue="other", run_id="night")
        told: list[int] = []
        assert await queue.abort_run("night", on_progress=told.append) == 4
        assert (await queue.counts())[JobState.ABORTED] == 3
        assert await queue.clear(on_progress=told.append) == 4
        assert told == [4, 4]
        assert sum((await queue.counts()).values()) == 0
        assert await queue.get(elsewhere) is not None


async def test_an_earlier_result_is_found_in_its_own_queue() -> None:
    @job(queue="elsewhere", fingerprint=True)
    async def square(n: int) -> int:
        return n * n

    async with JobQueue("mail", jobs=[square]) as queue:
        assert await queue.output_for(square(3)) is None
        await queue.wait_for(await queue.add(square(3)), timeout=20)
        assert await queue.output_for(square(3)) == 9
        assert await queue.output_for(square(4)) is None


async def test_the_options_of_the_pool_reach_it(bench: Any) -> None:
    limiter, kept = RateLimiter(2, per=3600), Retention(failed=None)
    async with MemoryQueueStorage() as storage:
        queue = JobQueue("mail", jobs=bench.jobs, storage=storage, limiter=limiter, retention=kept)
        async with queue, queue.events(JobCompleted) as completed:
            handles = await queue.add_many([bench.quick(n=n) for n in range(3)])
            assert [(await anext(completed)).job_id for _ in range(2)] == [handles[0].id, handles[1].id]
            assert await queue.size() == 1
        assert [(one.name, one.retention, one.owner) for one in await storage.queues()] == [("mail", kept, "worker")]
    with pytest.raises(ConfigurationError, match="lost_after"):
        JobQueue("mail", jobs=bench.jobs, lost_after=1, heartbeat_interval=1)


async def test_a_failure_is_raised_to_the_waiter(bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs) as queue:
        with pytest.raises(PermanentJobError, match="this one never works"):
            await queue.wait_for(await queue.add(bench.broken(n=1)), timeout=20)


async def test_what_is_around_its_handlers_is_given_to_its_server() -> None:
    @job
    async def use(*, pool: Pool = provided()) -> str:
        return type(pool).__name__

    queue, notes = JobQueue("mail", jobs=[use]), []

    @queue.middleware
    def note(job: Job[Any], context: JobContext) -> Generator[None, Any, None]:
        result = yield
        notes.append(result)

    @queue.lifespan
    async def opened() -> AsyncIterator[None]:
        notes.append("open")
        yield
        notes.append("closed")

    @queue.provides
    def pool() -> Pool:
        return Pool()

    async with queue:
        assert await queue.wait_for(await queue.add(use()), timeout=20) == "Pool"
    assert notes == ["open", "Pool", "closed"]
