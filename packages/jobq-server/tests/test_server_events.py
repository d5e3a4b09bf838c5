"""The events of a server's pool."""

from __future__ import annotations

from collections import Counter
from typing import Any

from jobq_client import JobQueueClient
from jobq_core import (
    Event,
    JobAborted,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobProgressed,
    JobQueueError,
    JobStarted,
    WorkerInfo,
    WorkerLost,
    WorkerStarted,
    WorkerStopped,
)
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.storage import Claim
from jobq_server import JobQueueServer


async def test_all_events_of_a_job_are_emitted(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    async with JobQueueClient(storage) as client, server:
        progressed, completed = server.next_event(JobProgressed), server.next_event(JobCompleted)
        emitted: list[JobEvent] = []
        server.on(JobEvent, emitted.append)
        handle = await client.add(bench.half_way(n=1))
        assert (await progressed).progress.percent == 50
        bench.open()
        assert (await completed).job_id == handle.id
    assert [type(event) for event in emitted] == [JobStarted, JobProgressed, JobCompleted]
    assert {event.job_id for event in emitted} == {handle.id}


async def test_events_can_be_iterated_until_the_server_stops(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    async with JobQueueClient(storage) as client, server:
        stream = server.events(JobStarted, JobCompleted)
        completed = server.next_event(JobCompleted)
        await client.add(bench.quick(n=1))
        await completed
    assert [type(event) async for event in stream] == [JobStarted, JobCompleted]


async def test_each_end_is_emitted_once_per_callback(storage: MemoryQueueStorage, bench: Any) -> None:
    first: Counter[object] = Counter()
    second: Counter[object] = Counter()
    server = JobQueueServer(storage, jobs=bench.jobs, worker_count=5)
    server.on(JobCompleted, lambda event: first.update([event.job_id]))
    server.on(JobEvent, lambda event: second.update([event.job_id] if isinstance(event, JobCompleted) else []))
    async with JobQueueClient(storage) as client, server:
        handles = await client.add_many([bench.quick(n=n) for n in range(50)])
        for handle in handles:
            await client.wait_for(handle, timeout=20)
    assert first == second == Counter(handle.id for handle in handles)


async def test_failures_and_aborts_are_emitted(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    async with JobQueueClient(storage) as client, server:
        failed, aborted = server.next_event(JobFailed), server.next_event(JobAborted)
        await client.add(bench.broken(n=1))
        error = (await failed).error
        assert error is not None
        assert error.message == "this one never works"
        handle = await client.add(bench.held(n=2))
        await bench.until(lambda b: b.running == 1)
        await client.abort(handle)
        assert (await aborted).job_id == handle.id


async def test_every_start_and_stop_is_emitted(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs, name="pool")
    emitted: list[Event] = []
    server.on(Event, emitted.append)
    for _ in range(2):
        async with server:
            pass
    assert [type(event) for event in emitted] == [WorkerStarted, WorkerStopped] * 2


async def test_a_cancelled_callback_is_not_called(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    emitted: list[Event] = []
    cancel = server.on(WorkerStarted, emitted.append)
    once: list[Event] = []
    server.once(WorkerStarted, once.append)
    async with server:
        assert server.wants(WorkerStarted)
        cancel()
        assert not server.wants(WorkerStarted)
    async with server:
        pass
    assert (len(emitted), len(once)) == (1, 1)


async def test_a_lost_worker_is_emitted_and_its_jobs_run_again(bench: Any) -> None:
    now = 1_000_000.0
    async with MemoryQueueStorage(clock=lambda: now) as storage, JobQueueClient(storage) as client:
        handle = await client.add(bench.quick(n=1), max_attempts=2)
        lost = WorkerInfo(
            id=new_id(), name="gone", host="far", pid=1, queues=("default",), kinds=(), concurrency=1, lost_after=5.0
        )
        await storage.register(lost)
        assert len((await storage.settle_and_claim(lost.id, (), Claim.of("default", limit=1))).claimed) == 1
        now += 6
        server = JobQueueServer(storage, jobs=bench.jobs)
        found = server.next_event(WorkerLost)
        async with server:
            event = await found
            assert (event.worker, event.name) == (lost.id, "gone")
            assert [job.id for job in event.jobs] == [handle.id]
            assert await client.wait_for(handle, timeout=20) == 1
    assert bench.runs == {1: 1}


async def test_an_event_can_be_emitted_from_outside(storage: MemoryQueueStorage, bench: Any) -> None:
    server = JobQueueServer(storage, jobs=bench.jobs)
    emitted: list[WorkerStarted] = []
    server.on(WorkerStarted, emitted.append)
    event = WorkerStarted(worker=new_id(), name="elsewhere")
    server.emit(event)
    assert emitted == [event]


async def test_a_callback_that_raises_affects_nothing_else(
    storage: MemoryQueueStorage, bench: Any, caplog: Any
) -> None:
    def wrong(_: JobCompleted) -> None:
        raise JobQueueError("this listener is broken")

    server = JobQueueServer(storage, jobs=bench.jobs)
    server.on(JobCompleted, wrong)
    async with JobQueueClient(storage) as client, server:
        for n in range(3):
            assert await client.wait_for(await client.add(bench.quick(n=n)), timeout=20) == n
    assert caplog.text.count("a listener to JobCompleted failed") == 3
