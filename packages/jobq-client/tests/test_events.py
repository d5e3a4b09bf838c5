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

from .helpers import ManualWorker, Probe, until
from .jobs import keep, send_receipt


async def test_each_added_job_emits_an_event(client: JobQueueClient) -> None:
    seen: list[JobAdded] = []
    client.on(JobAdded, seen.append)
    first = await client.add(send_receipt(1), unique="one")
    await client.add(send_receipt(1), unique="one")
    many = await client.add_many([keep(1), keep(2)], queue="images")
    assert seen == [
        JobAdded(job_id=first.id, kind="send_receipt", queue="default", created=True),
        JobAdded(job_id=first.id, kind="send_receipt", queue="default", created=False),
        JobAdded(job_id=many[0].id, kind="keep", queue="images"),
        JobAdded(job_id=many[1].id, kind="keep", queue="images"),
    ]


async def test_a_job_in_the_callers_transaction_emits_no_event(client: JobQueueClient) -> None:
    seen: list[JobAdded] = []
    client.on(JobAdded, seen.append)
    await client.add(send_receipt(1), connection=object())
    assert seen == []


async def test_an_end_is_emitted_once_per_callback_however_many_wait(
    client: JobQueueClient, worker: ManualWorker
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


async def test_failed_aborted_and_disabled_are_emitted(client: JobQueueClient, worker: ManualWorker) -> None:
    seen: list[JobEvent] = []
    for ending in (JobFailed, JobAborted, JobDisabled):
        client.on(ending, seen.append)
    failed, aborted, disabled = await client.add_many([keep(1), keep(2), keep(3)])
    await worker.fail(await worker.claim_one(), "ValueError", "bad")
    await client.abort(aborted)
    await client.disable(disabled)
    await asyncio.gather(*(h.result() for h in (failed, aborted, disabled)), return_exceptions=True)
    assert [(type(event), event.job_id) for event in seen] == [
        (JobFailed, failed.id),
        (JobAborted, aborted.id),
        (JobDisabled, disabled.id),
    ]
    assert isinstance(seen[0], JobFailed)
    assert seen[0].error is not None
    assert seen[0].error.message == "bad"


async def test_the_end_of_a_retried_job_is_emitted_again(client: JobQueueClient, worker: ManualWorker) -> None:
    seen: list[JobFailed] = []
    client.on(JobFailed, seen.append)
    handle = await client.add(keep(1))
    for _ in range(2):
        await worker.fail(await worker.claim_one())
        for _ in range(2):
            with pytest.raises(ValueError):
                await handle.result()
        await client.retry(handle)
    assert len(seen) == 2


async def test_a_watched_job_emits_events_without_waiters(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    seen: list[JobEvent] = []
    client.on(JobEvent, seen.append)
    handle = await client.add(keep(1))
    client.watch(handle)
    job = await worker.claim_one()
    await worker.report(job, 30)
    await until(lambda: len(seen) == 2)
    await worker.complete(job)
    await until(lambda: len(seen) == 3)
    assert [type(event) for event in seen] == [JobAdded, JobProgressed, JobCompleted]
    await until(lambda: storage.listening == 0)


async def test_watching_goes_on_after_a_disable(client: JobQueueClient, worker: ManualWorker) -> None:
    seen: list[type] = []
    client.on(JobEvent, lambda event: seen.append(type(event)))
    handle = await client.add(keep(1))
    client.watch(handle.id)
    await client.disable(handle)
    await until(lambda: seen == [JobAdded, JobDisabled])
    await client.enable(handle)
    await worker.run()
    await until(lambda: seen == [JobAdded, JobDisabled, JobCompleted])


async def test_watching_can_be_ended(storage: Probe, client: JobQueueClient, worker: ManualWorker) -> None:
    seen: list[JobEvent] = []
    client.on(JobCompleted, seen.append)
    handle = await client.add(keep(1))
    unwatch = client.watch(handle)
    await until(lambda: storage.listening == 1)
    unwatch()
    await until(lambda: storage.listening == 0)
    await worker.run()
    assert seen == []


async def test_progress_of_a_job_that_is_waited_for_is_emitted(client: JobQueueClient, worker: ManualWorker) -> None:
    seen: list[JobProgressed] = []
    client.on(JobProgressed, seen.append)
    handle = await client.add(keep(1))
    waiting = asyncio.create_task(handle.result())
    job = await worker.claim_one()
    await worker.report(job, 30, "x")
    await until(lambda: len(seen) == 1)
    await worker.complete(job)
    await waiting
    assert [(event.job_id, event.progress.percent, event.attempt) for event in seen] == [(handle.id, 30, 1)]


async def test_events_can_be_awaited_and_iterated(client: JobQueueClient, worker: ManualWorker) -> None:
    stream = client.events(JobAdded, JobCompleted)
    coming = client.next_event(JobCompleted)
    handle = await client.add(keep(1))
    await worker.run()
    await handle.result()
    assert (await coming).job_id == handle.id
    assert [type(await anext(stream)) for _ in range(2)] == [JobAdded, JobCompleted]


async def test_a_callback_is_called_once_for_once_and_not_after_its_end(client: JobQueueClient) -> None:
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


async def test_the_end_of_a_job_that_another_client_retried_is_emitted_again(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    seen: list[JobFailed] = []
    client.on(JobFailed, seen.append)
    handle = await client.add(keep(1))
    await worker.fail(await worker.claim_one(), message="first")
    await asyncio.gather(handle.result(), return_exceptions=True)
    await storage.retry([handle.id])
    await worker.fail(await worker.claim_one(), message="second")
    await asyncio.gather(handle.result(), return_exceptions=True)
    assert [event.error.message for event in seen if event.error] == ["first", "second"]


async def test_only_the_latest_ends_are_remembered(
    client: JobQueueClient, worker: ManualWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_events, "REMEMBERED", 2)
    seen: list[JobCompleted] = []
    client.on(JobCompleted, seen.append)
    handles = await client.add_many([keep(1), keep(2), keep(3)])
    for _ in handles:
        await worker.run()
    for handle in (*handles, handles[2], handles[0]):
        await handle.result()
    assert [event.job_id for event in seen] == [handle.id for handle in (*handles, handles[0])]


async def test_watching_an_unknown_job_is_logged(
    storage: Probe, client: JobQueueClient, caplog: pytest.LogCaptureFixture
) -> None:
    handle = await client.add(keep(1))
    client.watch(handle)
    await until(lambda: storage.listening == 1)
    await client.delete(handle)
    await until(lambda: bool(caplog.messages))
    assert caplog.messages == [f"stopped watching job {handle.id}: the job does not exist"]
