"""What a `JobQueue` tells: what its client and its server tell, and each thing once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from jobq_core import (
    AbortSignalJobError,
    Backoff,
    ClosedError,
    Event,
    JobAborted,
    JobAdded,
    JobCompleted,
    JobDisabled,
    JobEvent,
    JobProgressed,
    JobQueueError,
    JobRetried,
    JobStarted,
    RetryPolicy,
    RunEvent,
    WorkerStarted,
    WorkerStopped,
    job,
)
from jobq_core.memory import MemoryQueueStorage
from jobq_server import JobQueue, JobQueueServer


async def barrier(queue: JobQueue, job: Any) -> None:
    """Have one more job run and be waited for: whatever was to be told of those before has been told then."""
    await queue.wait_for(await queue.add(job), timeout=20)


async def test_each_end_is_told_once_although_client_and_server_both_see_it(bench: Any) -> None:
    heard: Counter[tuple[str, object]] = Counter()
    queue = JobQueue("mail", jobs=bench.jobs, worker_count=4)
    queue.on(RunEvent, lambda event: heard.update([(type(event).__name__, event.job_id)]))
    async with queue:
        handles = await queue.add_many([bench.quick(n=n) for n in range(40)])
        for handle in handles:
            queue.client.watch(handle)  # the client tells of what it watches, and of what it waits for
        for handle in handles:
            await queue.wait_for(handle, timeout=20)
        await barrier(queue, bench.quick(n=99))
    for handle in handles:
        assert heard["JobStarted", handle.id] == 1
        assert heard["JobCompleted", handle.id] == 1


async def test_progress_is_told_once(bench: Any) -> None:
    told: list[JobProgressed] = []
    queue = JobQueue("mail", jobs=bench.jobs)
    queue.on(JobProgressed, told.append)
    async with queue:
        handle = await queue.add(bench.half_way(n=1))
        async for _ in queue.follow(handle):
            bench.open()
        await barrier(queue, bench.quick(n=2))
    assert [event.progress.percent for event in told] == [50]


async def test_the_whole_story_is_told(bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs)
    stream = queue.events()
    async with queue:
        await queue.wait_for(await queue.add(bench.quick(n=1)), timeout=20)
    told = [type(event) async for event in stream]
    # The client says that it has added when the answer is there; a worker may have been quicker.
    assert told.count(JobAdded) == 1
    told.remove(JobAdded)
    assert told == [WorkerStarted, JobStarted, JobCompleted, WorkerStopped]


async def test_what_was_aborted_before_it_ran_is_told_by_the_client(bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs, worker_count=0) as queue:
        aborted = queue.next_event(JobAborted)
        handle = await queue.add(bench.quick(n=1))
        queue.client.watch(handle)
        await queue.abort(handle)
        assert (await aborted).job_id == handle.id


async def test_what_was_aborted_between_two_runs_is_told_by_the_client(bench: Any) -> None:
    @job(retry=RetryPolicy(backoff=Backoff(base=3600, jitter=False)))
    async def again() -> None:
        raise ValueError("not yet")

    told: list[Event] = []
    async with JobQueue("mail", jobs=[again]) as queue:
        retried, disabled, aborted = map(queue.next_event, (JobRetried, JobDisabled, JobAborted))
        queue.on(RunEvent, told.append)
        handle = await queue.add(again())
        await retried
        queue.client.watch(handle)
        await queue.disable(handle)
        assert (await disabled).worker == queue.server.id  # of the run before
        await queue.abort(handle)
        assert (await aborted).job_id == handle.id
    assert [type(event) for event in told] == [JobStarted, JobRetried, JobDisabled, JobAborted]


async def test_what_was_aborted_while_it_ran_is_told_once(bench: Any) -> None:
    told: list[Event] = []
    async with JobQueue("mail", jobs=bench.jobs) as queue:
        queue.on(JobAborted, told.append)
        handle = await queue.add(bench.held(n=1))
        queue.client.watch(handle)
        await bench.until(lambda b: b.running == 1)
        await queue.abort(handle)
        with pytest.raises(AbortSignalJobError):
            await queue.wait_for(handle, timeout=20)
        await barrier(queue, bench.quick(n=2))
    assert len(told) == 1


async def test_what_ran_elsewhere_is_told_by_the_client_once(storage: MemoryQueueStorage, bench: Any) -> None:
    told: list[JobEvent] = []
    async with (
        JobQueue("mail", jobs=bench.jobs, storage=storage, worker_count=0) as queue,
        JobQueueServer(storage, jobs=bench.jobs, queues=["mail"]),
    ):
        queue.on(JobCompleted, told.append)
        handle = await queue.add(bench.quick(n=1))
        assert await queue.wait_for(handle, timeout=20) == 1
    assert [event.job_id for event in told] == [handle.id]


async def test_after_a_restart_an_old_end_is_not_told_again(bench: Any) -> None:
    told: list[JobEvent] = []
    queue = JobQueue("mail", jobs=bench.jobs)
    queue.on(JobCompleted, told.append)
    async with queue:
        handle = await queue.add(bench.quick(n=1))
        await queue.wait_for(handle, timeout=20)
    async with queue:
        await queue.wait_for(handle, timeout=20)
    assert [event.job_id for event in told] == [handle.id]


async def test_a_client_alone_tells_of_what_it_waits_for(storage: MemoryQueueStorage, bench: Any) -> None:
    async with (
        JobQueue("mail", storage=storage, mode="client") as queue,
        JobQueueServer(storage, jobs=bench.jobs, queues=["mail"]),
    ):
        stream = queue.events(JobEvent)
        await queue.wait_for(await queue.add(bench.quick(n=1)), timeout=20)
    assert [type(event) async for event in stream] == [JobAdded, JobCompleted]


async def test_a_server_alone_tells_of_what_it_runs(storage: MemoryQueueStorage, bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs, storage=storage, mode="server")
    async with JobQueue("mail", storage=storage, mode="client") as adding, queue:
        completed = queue.next_event(JobCompleted)
        handle = await adding.add(bench.quick(n=1))
        assert (await completed).job_id == handle.id


async def test_a_listener_is_called_once_for_once_and_not_after_its_end(bench: Any) -> None:
    once: list[Event] = []
    always: list[Event] = []
    queue = JobQueue("mail", jobs=bench.jobs)
    queue.once(JobAdded, once.append)
    cancel = queue.on(JobAdded, always.append)
    assert queue.wants(JobAdded)
    assert not queue.wants(JobStarted)
    async with queue:
        for n in range(2):
            await barrier(queue, bench.quick(n=n))
        cancel()
        await barrier(queue, bench.quick(n=3))
    assert (len(once), len(always)) == (1, 2)


async def test_asynchronous_listeners_are_awaited(bench: Any) -> None:
    heard = asyncio.Event()

    async def hear(_: JobCompleted) -> None:
        heard.set()

    queue = JobQueue("mail", jobs=bench.jobs)
    queue.on(JobCompleted, hear)
    async with queue:
        await barrier(queue, bench.quick(n=1))
        await heard.wait()


async def test_waits_for_events_end_when_it_stops(bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs) as queue:
        never = queue.next_event(JobAborted)
    with pytest.raises(ClosedError):
        await never
    assert issubclass(ClosedError, JobQueueError)
