from __future__ import annotations

import asyncio
import contextvars
import logging
from uuid import uuid4

import pytest

from jobq_client import JobQueueClient
from jobq_core import ClosedError, JobNotFoundError, Progress
from jobq_core.states import Ending

from .helpers import ManualWorker, Probe, until
from .jobs import keep, send_receipt


async def test_a_handle_returns_the_progress(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    assert await handle.progress() == Progress()
    await worker.report(await worker.claim_one(), 40, "half done", {"pages": [1, 2]})
    assert await handle.progress() == Progress(percent=40, message="half done", details={"pages": [1, 2]})
    assert await client.progress_of(str(handle.id)) == await handle.progress()
    with pytest.raises(JobNotFoundError):
        await client.progress_of(uuid4())


async def test_progress_reaches_a_client_that_did_not_add_the_job(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    async with JobQueueClient(worker.storage, poll=3600) as other:
        seen: list[Progress] = []
        other.on_progress(handle.id, seen.append)
        job = await worker.claim_one()
        for percent in (10, 20):
            await worker.report(job, percent)
            await until(lambda wanted=percent: bool(seen) and seen[-1].percent == wanted)  # type: ignore[misc]
        assert [progress.percent for progress in seen] == [10, 20]


async def test_progress_before_the_subscription_is_delivered_at_once(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(send_receipt(1))
    job = await worker.claim_one()
    await worker.report(job, 70)
    seen: list[Progress] = []
    cancel = client.on_progress(handle, seen.append)
    await until(lambda: bool(seen))
    assert seen == [Progress(percent=70)]
    cancel()


async def test_a_change_of_message_or_details_alone_is_delivered(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    job = await worker.claim_one()
    seen: list[Progress] = []
    cancel = client.on_progress(handle, seen.append)
    steps = [(10.0, "a", None), (10.0, "b", None), (10.0, "b", {"n": 1}), (10.0, "b", {"n": 2})]
    for count, step in enumerate(steps, 1):
        await worker.report(job, *step)
        await until(lambda wanted=count: len(seen) == wanted)  # type: ignore[misc]
    assert [(p.percent, p.message, p.details) for p in seen] == steps
    cancel()


async def test_the_same_progress_again_is_not_delivered(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(send_receipt(1))
    job = await worker.claim_one()
    seen: list[Progress] = []
    client.on_progress(handle, seen.append)
    await worker.report(job, 10)
    await until(lambda: len(seen) == 1)
    await worker.report(job, 10)
    await worker.report(job, 10)
    await worker.complete(job)
    await until(lambda: storage.listening == 0)
    assert len(seen) == 1


async def test_callbacks_get_the_progress_of_their_own_job_only(client: JobQueueClient, worker: ManualWorker) -> None:
    handles = await client.add_many([keep(0), keep(1)])
    jobs = await worker.claim()
    seen: list[list[float]] = [[], []]
    cancels = [
        client.on_progress(handles[0], lambda progress: seen[0].append(progress.percent)),
        client.on_progress(handles[1], lambda progress: seen[1].append(progress.percent)),
    ]
    await worker.report(jobs[0], 11)
    await worker.report(jobs[1], 22)
    await until(lambda: all(seen))
    assert seen == [[11], [22]]
    for cancel in cancels:
        cancel()


async def test_two_callbacks_of_one_job_both_get_its_progress(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    job = await worker.claim_one()
    first: list[Progress] = []
    second: list[Progress] = []
    cancels = [client.on_progress(handle, first.append), client.on_progress(handle, second.append)]
    await worker.report(job, 5)
    await until(lambda: bool(first and second))
    assert first == second == [Progress(percent=5)]
    for cancel in cancels:
        cancel()


async def test_after_unsubscribing_nothing_is_delivered_and_nothing_is_subscribed(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(send_receipt(1))
    job = await worker.claim_one()
    seen: list[Progress] = []
    cancel = client.on_progress(handle, seen.append)
    await worker.report(job, 5)
    await until(lambda: bool(seen))
    cancel()
    cancel()
    await worker.report(job, 6)
    await until(lambda: storage.listening == 0)
    assert seen == [Progress(percent=5)]


async def test_a_subscription_ends_with_the_job(storage: Probe, client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    job = await worker.claim_one()
    seen: list[Progress] = []
    client.on_progress(handle, seen.append)
    await worker.report(job, 99)
    await worker.complete(job)
    await until(lambda: bool(seen) and storage.listening == 0)
    assert seen == [Progress(percent=99)]


async def test_progress_is_delivered_across_attempts(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    seen: list[float] = []
    cancel = client.on_progress(handle, lambda progress: seen.append(progress.percent))
    job = await worker.claim_one()
    await worker.report(job, 50)
    await until(lambda: seen == [50])
    await worker.settle(job, Ending.RETRY)
    await worker.report(await worker.claim_one(), 10)
    await until(lambda: seen[-1] == 10)
    cancel()


async def test_an_async_callback_is_awaited(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    seen = asyncio.Queue[Progress]()

    async def callback(progress: Progress) -> None:
        await seen.put(progress)

    cancel = client.on_progress(handle, callback)
    await worker.report(await worker.claim_one(), 5)
    assert await seen.get() == Progress(percent=5)
    cancel()


async def test_a_callback_runs_in_the_context_of_its_caller(client: JobQueueClient, worker: ManualWorker) -> None:
    request = contextvars.ContextVar("request", default="none")
    seen: list[str] = []
    handle = await client.add(send_receipt(1))
    cancels = []
    for name in ("a", "b"):
        request.set(name)
        cancels.append(client.on_progress(handle, lambda _: seen.append(request.get())))
    await worker.report(await worker.claim_one(), 5)
    await until(lambda: seen == ["a", "b"])
    for cancel in cancels:
        cancel()


async def test_a_callback_that_fails_is_logged_and_does_not_affect_others(
    client: JobQueueClient, worker: ManualWorker, caplog: pytest.LogCaptureFixture
) -> None:
    handle = await client.add(send_receipt(1))
    seen: list[Progress] = []

    def fails(progress: Progress) -> None:
        raise ZeroDivisionError("in the callback")

    async def fails_later(progress: Progress) -> None:
        raise ZeroDivisionError("in the async callback")

    client.on_progress(handle, fails)
    client.on_progress(handle, fails_later)
    client.on_progress(handle, seen.append)
    waiting = asyncio.create_task(handle.result())
    job = await worker.claim_one()
    await worker.report(job, 5)
    await until(lambda: bool(seen))
    await worker.complete(job, b'"sent"')
    assert await waiting == "sent"
    await until(lambda: len(caplog.records) == 2)
    assert {str(record.exc_info[1]) for record in caplog.records if record.exc_info} == {
        "in the callback",
        "in the async callback",
    }


async def test_following_an_unknown_job_with_a_callback_is_logged(
    storage: Probe, client: JobQueueClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "jobq.client")
    missing = uuid4()
    client.on_progress(missing, print)
    await until(lambda: bool(caplog.records))
    assert caplog.messages == [f"stopped following job {missing}: the job does not exist"]
    await until(lambda: storage.listening == 0)


async def test_following_gives_each_progress_until_the_end(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    seen: list[float] = []

    async def follow() -> None:
        async for progress in handle.follow():
            seen.append(progress.percent)

    following = asyncio.create_task(follow())
    job = await worker.claim_one()
    for percent in (25, 50, 75):
        await worker.report(job, percent)
        await until(lambda wanted=percent: bool(seen) and seen[-1] == wanted)  # type: ignore[misc]
    await worker.report(job, 100)
    await worker.complete(job)
    await following
    assert seen == [25, 50, 75, 100]


async def test_following_a_finished_job_gives_its_last_progress(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    job = await worker.claim_one()
    await worker.report(job, 80)
    await worker.complete(job)
    assert [progress.percent async for progress in client.follow(handle.id)] == [80]


async def test_a_slow_reader_gets_the_latest(storage: Probe, client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    job = await worker.claim_one()
    await worker.report(job, 1)
    reader = client.follow(handle)
    assert (await anext(reader)).percent == 1
    looks = storage.calls["get_status"]
    for percent in (2, 3, 4):
        await worker.report(job, percent)
    await until(lambda: storage.calls["get_status"] > looks)
    assert (await anext(reader)).percent == 4
    await worker.complete(job)
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_following_an_unknown_or_deleted_job_raises_job_not_found(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    with pytest.raises(JobNotFoundError):
        await anext(client.follow(uuid4()))
    handle = await client.add(send_receipt(1))
    await worker.report(await worker.claim_one(), 1)
    reader = handle.follow()
    await anext(reader)
    await client.delete(handle)
    with pytest.raises(JobNotFoundError):
        await anext(reader)


async def test_a_client_that_stops_ends_its_followers(storage: Probe) -> None:
    client = JobQueueClient(storage)
    await client.start()
    handle = await client.add(send_receipt(1))
    following = asyncio.create_task(anext(handle.follow()))
    client.on_progress(handle, print)
    await until(lambda: storage.listening == 1)
    await client.stop()
    with pytest.raises(ClosedError):
        await following
    assert storage.listening == 0


async def test_progress_on_a_finished_job_changes_nothing(client: JobQueueClient, worker: ManualWorker) -> None:
    handle = await client.add(send_receipt(1))
    job = await worker.claim_one()
    await worker.complete(job)
    assert not await worker.report(job, 50)
    assert await handle.progress() == Progress()


async def test_unsubscribing_during_a_read_delivers_nothing(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(send_receipt(1))
    await worker.report(await worker.claim_one(), 5)
    seen: list[Progress] = []
    gate = storage.hold("get_status", after=True)
    first = client.on_progress(handle, seen.append)
    others: list[Progress] = []
    second = client.on_progress(handle, others.append)
    await until(lambda: storage.calls["get_status"] == 1)
    first()
    gate.set()
    await until(lambda: bool(others))
    assert seen == []
    second()
