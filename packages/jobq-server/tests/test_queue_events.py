"""The events of a `JobQueue`: those of its client and its server, each once."""

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
    """Run one more job and wait for it: all events of earlier jobs are emitted then."""
    await queue.wait_for(await queue.add(job), timeout=20)


async def test_each_end_is_emitted_once_although_client_and_server_both_see_it(bench: Any) -> None:
    seen: Counter[tuple[str, object]] = Counter()
    queue = JobQueue("mail", jobs=bench.jobs, worker_count=4)
    queue.on(RunEvent, lambda event: seen.update([(type(event).__name__, event.job_id)]))
    async with queue:
        handles = await queue.add_many([bench.quick(n=n) for n in range(40)])
        for handle in handles:
            queue.client.watch(handle)  # the client emits the events of what it watches or waits for
        for handle in handles:
            await queue.wait_for(handle, timeout=20)
        await barrier(queue, bench.quick(n=99))
    for handle in handles:
        assert seen["JobStarted", handle.id] == 1
        assert seen["JobCompleted", handle.id] == 1


async def test_progress_is_emitted_once(bench: Any) -> None:
    emitted: list[JobProgressed] = []
    queue = JobQueue("mail", jobs=bench.jobs)
    queue.on(JobProgressed, emitted.append)
    async with queue:
        handle = await queue.add(bench.half_way(n=1))
        async for _ in queue.follow(handle):
            bench.open()
        await barrier(queue, bench.quick(n=2))
    assert [event.progress.percent for event in emitted] == [50]


async def test_all_events_of_a_job_are_emitted_in_order(bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs)
    stream = queue.events()
    async with queue:
        await queue.wait_for(await queue.add(bench.quick(n=1)), timeout=20)
    emitted = [type(event) async for event in stream]
    # The client emits JobAdded when it has the answer; a worker may be quicker.
    assert emitted.count(JobAdded) == 1
    emitted.remove(JobAdded)
    assert emitted == [WorkerStarted, JobStarted, JobCompleted, WorkerStopped]


async def test_the_client_emits_the_abort_of_a_job_that_never_ran(bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs, worker_count=0) as queue:
        aborted = queue.next_event(JobAborted)
        handle = await queue.add(bench.quick(n=1))
        queue.client.watch(handle)
        await queue.abort(handle)
        assert (await aborted).job_id == handle.id


async def test_the_client_emits_an_abort_between_two_runs(bench: Any) -> None:
    @job(retry=RetryPolicy(backoff=Backoff(base=3600, jitter=False)))
    async def again() -> None:
        raise ValueError("not yet")

    emitted: list[Event] = []
    async with JobQueue("mail", jobs=[again]) as queue:
        retried, disabled, aborted = map(queue.next_event, (JobRetried, JobDisabled, JobAborted))
        queue.on(RunEvent, emitted.append)
        handle = await queue.add(again())
        await retried
        queue.client.watch(handle)
        await queue.disable(handle)
        assert (await disabled).worker == queue.server.id  # of the run before
        await queue.abort(handle)
        assert (await aborted).job_id == handle.id
    assert [type(event) for event in emitted] == [JobStarted, JobRetried, JobDisabled, JobAborted]


async def test_an_abort_during_a_run_is_emitted_once(bench: Any) -> None:
    emitted: list[Event] = []
    async with JobQueue("mail", jobs=bench.jobs) as queue:
        queue.on(JobAborted, emitted.append)
        handle = await queue.add(bench.held(n=1))
        queue.client.watch(handle)
        await bench.until(lambda b: b.running == 1)
        await queue.abort(handle)
        with pytest.raises(AbortSignalJobError):
            await queue.wait_for(handle, timeout=20)
        await barrier(queue, bench.quick(n=2))
    assert len(emitted) == 1


async def test_the_client_emits_the_end_of_a_job_that_ran_elsewhere_once(
    storage: MemoryQueueStorage, bench: Any
) -> None:
    emitted: list[JobEvent] = []
    async with (
        JobQueue("mail", jobs=bench.jobs, storage=storage, worker_count=0) as queue,
        JobQueueServer(storage, jobs=bench.jobs, queues=["mail"]),
    ):
        queue.on(JobCompleted, emitted.append)
        handle = await queue.add(bench.quick(n=1))
        assert await queue.wait_for(handle, timeout=20) == 1
    assert [event.job_id for event in emitted] == [handle.id]


async def test_after_a_restart_an_old_end_is_not_emitted_again(bench: Any) -> None:
    emitted: list[JobEvent] = []
    queue = JobQueue("mail", jobs=bench.jobs)
    queue.on(JobCompleted, emitted.append)
    async with queue:
        handle = await queue.add(bench.quick(n=1))
        await queue.wait_for(handle, timeout=20)
    async with queue:
        await queue.wait_for(handle, timeout=20)
    assert [event.job_id for event in emitted] == [handle.id]


async def test_in_mode_client_the_jobs_waited_for_emit_events(storage: MemoryQueueStorage, bench: Any) -> None:
    async with (
        JobQueue("mail", storage=storage, mode="client") as queue,
        JobQueueServer(storage, jobs=bench.jobs, queues=["mail"]),
    ):
        stream = queue.events(JobEvent)
        await queue.wait_for(await queue.add(bench.quick(n=1)), timeout=20)
    assert [type(event) async for event in stream] == [JobAdded, JobCompleted]


async def test_in_mode_server_the_jobs_run_emit_events(storage: MemoryQueueStorage, bench: Any) -> None:
    queue = JobQueue("mail", jobs=bench.jobs, storage=storage, mode="server")
    async with JobQueue("mail", storage=storage, mode="client") as adding, queue:
        completed = queue.next_event(JobCompleted)
        handle = await adding.add(bench.quick(n=1))
        assert (await completed).job_id == handle.id


async def test_a_callback_is_called_once_for_once_and_not_after_its_end(bench: Any) -> None:
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


async def test_async_callbacks_are_awaited(bench: Any) -> None:
    seen = asyncio.Event()

    async def hear(_: JobCompleted) -> None:
        seen.set()

    queue = JobQueue("mail", jobs=bench.jobs)
    queue.on(JobCompleted, hear)
    async with queue:
        await barrier(queue, bench.quick(n=1))
        await seen.wait()


async def test_waits_for_events_end_when_it_stops(bench: Any) -> None:
    async with JobQueue("mail", jobs=bench.jobs) as queue:
        never = queue.next_event(JobAborted)
    with pytest.raises(ClosedError):
        await never
    assert issubclass(ClosedError, JobQueueError)
