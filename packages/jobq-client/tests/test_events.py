from __future__ import annotations

import asyncio

import pytest

from jobq_client import JobQueueClient, client_events
from jobq_core import (
    ClosedError,
    Event,
    JobAborted,
    JobAdded,
    JobCompleted,
    JobDisabled,
    JobEvent,
    JobFailed,
    JobProgressed,
)

from .helpers import Hands, Probe, until
from .jobs import keep, send_receipt


async def test_each_added_job_is_announced(client: JobQueueClient) -> None:
    heard: list[JobAdded] = []
    client.on(JobAdded, heard.append)
    first = await client.add(send_receipt(1), unique="one")
    await client.add(send_receipt(1), unique="one")
    many = await client.add_many([keep(1), keep(2)], queue="images")
    assert heard == [
        JobAdded(job_id=first.id, kind="send_receipt", queue="default", created=True),
        JobAdded(job_id=first.id, kind="send_receipt", queue="default", created=False),
        JobAdded(job_id=many[0].id, kind="keep", queue="images"),
        JobAdded(job_id=many[1].id, kind="keep", queue="images"),
    ]


async def test_a_job_in_the_callers_transaction_is_not_announced(client: JobQueueClient) -> None:
    heard: list[JobAdded] = []
    client.on(JobAdded, heard.append)
    await client.add(send_receipt(1), connection=object())
    assert heard == []


async def test_an_ending_is_announced_once_to_each_listener_however_many_wait(
    client: JobQueueClient, worker: Hands
) -> None:
    first: list[Event] = []
    second: list[Event] = []
    client.on(JobCompleted, first.append)
    client.on(JobEvent, second.append)
    handle = await client.add(send_receipt(1))
    second.clear()
    waiting = [asyncio.create_task(handle.result()) for _ in range(5)]
    job = await worker.run(b'"sent"')
    await asyncio.gather(*waiting)
    await handle.result()
    event = JobCompleted(
        job_id=handle.id, kind="send_receipt", queue="default", attempt=1, worker=worker.id, result_json=b'"sent"'
    )
    assert job.id == handle.id
    assert first == second == [event]


async def test_failed_aborted_and_disabled_are_announced(client: JobQueueClient, worker: Hands) -> None:
    heard: list[JobEvent] = []
    for ending in (JobFailed, JobAborted, JobDisabled):
        client.on(ending, heard.append)
    failed, aborted, disabled = await client.add_many([keep(1), keep(2), keep(3)])
    await worker.fail(await worker.claim_one(), "ValueError", "bad")
    await client.abort(aborted)
    await client.disable(disabled)
    await asyncio.gather(*(h.result() for h in (failed, aborted, disabled)), return_exceptions=True)
    assert [(type(event), event.job_id) for event in heard] == [
        (JobFailed, failed.id),
        (JobAborted, aborted.id),
        (JobDisabled, disabled.id),
    ]
    assert isinstance(heard[0], JobFailed)
    assert heard[0].error is not None
    assert heard[0].error.message == "bad"


async def test_the_end_of_a_retried_job_is_announced_again(client: JobQueueClient, worker: Hands) -> None:
    heard: list[JobFailed] = []
    client.on(JobFailed, heard.append)
    handle = await client.add(keep(1))
    for _ in range(2):
        await worker.fail(await worker.claim_one())
        for _ in range(2):
            with pytest.raises(ValueError):
                await handle.result()
        await client.retry(handle)
    assert len(heard) == 2


async def test_a_watched_job_is_announced_though_nobody_waits(
    storage: Probe, client: JobQueueClient, worker: Hands
) -> None:
    heard: list[JobEvent] = []
    client.on(JobEvent, heard.append)
    handle = await client.add(keep(1))
    client.watch(handle)
    job = await worker.claim_one()
    await worker.report(job, 30)
    await until(lambda: len(heard) == 2)
    await worker.complete(job)
    await until(lambda: len(heard) == 3)
    assert [type(event) for event in heard] == [JobAdded, JobProgressed, JobCompleted]
    await until(lambda: storage.listening == 0)


async def test_a_disabled_job_is_watched_on(client: JobQueueClient, worker: Hands) -> None:
    heard: list[type] = []
    client.on(JobEvent, lambda event: heard.append(type(event)))
    handle = await client.add(keep(1))
    client.watch(handle.id)
    await client.disable(handle)
    await until(lambda: heard == [JobAdded, JobDisabled])
    await client.enable(handle)
    await worker.run()
    await until(lambda: heard == [JobAdded, JobDisabled, JobCompleted])


async def test_watching_ends_when_asked_to(storage: Probe, client: JobQueueClient, worker: Hands) -> None:
    heard: list[JobEvent] = []
    client.on(JobCompleted, heard.append)
    handle = await client.add(keep(1))
    unwatch = client.watch(handle)
    await until(lambda: storage.listening == 1)
    unwatch()
    await until(lambda: storage.listening == 0)
    await worker.run()
    assert heard == []


async def test_progress_of_a_job_that_is_waited_for_is_announced(client: JobQueueClient, worker: Hands) -> None:
    heard: list[JobProgressed] = []
    client.on(JobProgressed, heard.append)
    handle = await client.add(keep(1))
    waiting = asyncio.create_task(handle.result())
    job = await worker.claim_one()
    await worker.report(job, 30, "x")
    await until(lambda: len(heard) == 1)
    await worker.complete(job)
    await waiting
    assert [(event.job_id, event.progress.percent, event.attempt) for event in heard] == [(handle.id, 30, 1)]


async def test_events_can_be_awaited_and_iterated(client: JobQueueClient, worker: Hands) -> None:
    stream = client.events(JobAdded, JobCompleted)
    coming = client.next_event(JobCompleted)
    handle = await client.add(keep(1))
    await worker.run()
    await handle.result()
    assert (await coming).job_id == handle.id
    assert [type(await anext(stream)) for _ in range(2)] == [JobAdded, JobCompleted]


async def test_a_listener_is_called_once_for_once_and_not_after_its_end(client: JobQueueClient) -> None:
    once: list[JobAdded] = []
    always: list[JobAdded] = []
    client.once(JobAdded, once.append)
    cancel = client.on(JobAdded, always.append)
    handles = [await client.add(keep(n)) for n in range(2)]
    cancel()
    await client.add(keep(3))
    assert [event.job_id for event in once] == [handles[0].id]
    assert [event.job_id for event in always] == [handle.id for handle in handles]


async def test_a_client_that_stops_ends_its_streams(storage: Probe) -> None:
    client = JobQueueClient(storage)
    await client.start()
    stream = client.events(JobAdded)
    coming = client.next_event(JobAdded)
    await client.stop()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    with pytest.raises(ClosedError):
        await coming


async def test_the_end_of_a_job_that_somebody_else_retried_is_announced_again(
    storage: Probe, client: JobQueueClient, worker: Hands
) -> None:
    heard: list[JobFailed] = []
    client.on(JobFailed, heard.append)
    handle = await client.add(keep(1))
    await worker.fail(await worker.claim_one(), message="first")
    await asyncio.gather(handle.result(), return_exceptions=True)
    await storage.retry([handle.id])
    await worker.fail(await worker.claim_one(), message="second")
    await asyncio.gather(handle.result(), return_exceptions=True)
    assert [event.error.message for event in heard if event.error] == ["first", "second"]


async def test_what_was_announced_is_forgotten_when_there_is_much_of_it(
    client: JobQueueClient, worker: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_events, "REMEMBERED", 2)
    heard: list[JobCompleted] = []
    client.on(JobCompleted, heard.append)
    handles = await client.add_many([keep(1), keep(2), keep(3)])
    for _ in handles:
        await worker.run()
    for handle in (*handles, handles[2], handles[0]):
        await handle.result()
    assert [event.job_id for event in heard] == [handle.id for handle in (*handles, handles[0])]


async def test_watching_no_job_is_logged(
    storage: Probe, client: JobQueueClient, caplog: pytest.LogCaptureFixture
) -> None:
    handle = await client.add(keep(1))
    client.watch(handle)
    await until(lambda: storage.listening == 1)
    await client.delete(handle)
    await until(lambda: bool(caplog.messages))
    assert caplog.messages == [f"stopped watching job {handle.id}: the job does not exist"]
