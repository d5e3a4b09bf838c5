"""The status poller: what it reads of many jobs, and what becomes of its waiters if one of its tasks ends."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

from jobq_client import JobQueueClient, status_poller, subscriptions
from jobq_core import JobCompleted, StorageError
from jobq_core.errors import ClosedError

from .helpers import ManualWorker, Probe, until
from .jobs import keep


async def test_a_finished_job_needs_no_subscription(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage, poll=3600) as client:
        handle = await client.add(keep(1))
        await worker.run(b"1")
        gate = storage.hold("enter")  # as a listener that gets no answer
        assert await handle.result() == 1
        gate.set()


async def test_without_an_answer_to_its_subscription_a_client_polls(storage: Probe, worker: ManualWorker) -> None:
    async with JobQueueClient(storage, poll=0.01) as client:
        gate = storage.hold("enter")
        handle = await client.add(keep(1))
        waiting = asyncio.create_task(handle.result())
        await until(lambda: storage.calls["get_status"] > 0)
        await worker.run(b"1")
        assert await waiting == 1
        gate.set()


@pytest.mark.parametrize("name", ["jobq status poller", "jobq notification feed"])
async def test_a_task_that_is_cancelled_by_others_ends_its_waiters_with_an_error(
    storage: Probe, client: JobQueueClient, worker: ManualWorker, name: str
) -> None:
    handles = await client.add_many([keep(1), keep(2)])
    waiting = [asyncio.create_task(handle.result()) for handle in handles]
    await until(lambda: storage.listening == 1)
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == name)
    task.cancel()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, ClosedError | StorageError) for error in errors)
    await until(lambda: storage.listening == 0)
    again = asyncio.create_task(handles[0].result())
    await worker.run(b"5")
    assert await again == 5


class OddError(BaseException):
    """An error that is not an Exception."""


@pytest.mark.parametrize("call", ["get_status", "enter", "wait"])
@pytest.mark.parametrize("error", [OddError("odd"), RuntimeError("odd"), asyncio.CancelledError("odd")])
async def test_an_unexpected_error_is_logged_and_reaches_the_waiters(
    storage: Probe,
    client: JobQueueClient,
    worker: ManualWorker,
    caplog: pytest.LogCaptureFixture,
    call: str,
    error: Any,
) -> None:
    handle = await client.add(keep(1))
    storage.fail(call, error)
    with pytest.raises((StorageError, RuntimeError, ClosedError)):
        await handle.result()
    assert caplog.messages or isinstance(error, asyncio.CancelledError)
    again = asyncio.create_task(handle.result())
    await worker.run(b"5")
    assert await again == 5


async def test_a_notification_has_the_likely_jobs_read_and_not_all(
    storage: Probe, worker: ManualWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "LIKELY", 10)
    monkeypatch.setattr(status_poller, "LIKELY", 10)
    async with JobQueueClient(storage, poll=3600) as client:
        late = (await client.add_many([keep(n) for n in range(5000)]))[-1]
        async with JobQueueClient(storage) as other:
            handles = [client.handle(page.id, keep) async for page in other.find_all(page_size=1000)]
        waiting = [asyncio.create_task(handle.result()) for handle in reversed(handles)]
        await until(lambda: sum(storage.status_reads) >= 5000)
        looks = len(storage.status_reads)
        for _ in range(20):
            await worker.complete(await worker.claim_one(), b"1")
        await asyncio.wait(waiting[:20])
        assert max(storage.status_reads[looks:]) <= 10 + 20
        # A job that is known to run is likely wherever it stands in line.
        await client._session.storage.disable([handle.id for handle in handles[1:-20]])  # type: ignore[union-attr]
        await asyncio.gather(*waiting[20:-1], return_exceptions=True)
        job = await worker.claim_one()
        assert job.id == late.id
        await worker.complete(job, b"7")
        assert await waiting[-1] == 7


async def test_idle_waits_are_polled_at_a_bounded_rate_and_each_gets_its_turn(
    storage: Probe, worker: ManualWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_poller, "JOBS_PER_SECOND", 10_000)
    monkeypatch.setattr(subscriptions, "LIKELY", 10)
    storage.silent = True
    async with JobQueueClient(storage, poll=0.01) as client:
        handles = await client.add_many(keep(n) for n in range(1500))
        waiting = [asyncio.create_task(handle.result()) for handle in handles]
        await until(lambda: sum(storage.status_reads) >= 1500)
        looks = len(storage.status_reads)
        last = (await worker.claim())[-1]
        await worker.complete(last, b"7")
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        (done,) = (task for task in waiting if task.done())
        assert done.result() == 7
        assert max(storage.status_reads[looks:]) <= 100, "10,000 a second are 100 in 0.01 s"
        for task in waiting:
            task.cancel()


def test_a_read_that_took_long_delays_the_next_one_by_a_poll_at_most() -> None:
    assert status_poller.gap_after(2, 0.0, poll=1.0) == 0.002
    assert status_poller.gap_after(9, 0.0, poll=1.0) == status_poller.MAX_GAP_SECONDS
    assert status_poller.gap_after(9, 0.05, poll=1.0) == 0.5
    # The event loop was blocked, or the storage did not answer.
    assert status_poller.gap_after(2, 1.2, poll=1.0) == 1.0


async def test_large_results_are_read_a_few_at_a_time(
    storage: Probe, worker: ManualWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_poller, "MAX_READ_BYTES", 10_000)
    async with JobQueueClient(storage, poll=3600) as client:
        handles = await client.add_many(keep(n) for n in range(100))
        for job in await worker.claim():
            await worker.complete(job, b'"' + b"x" * 1000 + b'"')
        for handles_of_one in (handles[:20], handles[20:]):
            await asyncio.gather(*(client.wait_for(handle.id) for handle in handles_of_one))
        assert max(storage.status_reads[1:]) <= 20
        assert sum(storage.status_reads) >= 100


async def test_results_are_not_kept_once_their_events_are_emitted(storage: Probe, worker: ManualWorker) -> None:
    size = 200_000
    async with JobQueueClient(storage) as client:
        sizes: list[int] = []
        client.on(JobCompleted, lambda event: sizes.append(len(event.result_json)))
        handles = await client.add_many(keep(n) for n in range(100))
        tracemalloc.start()
        for handle in handles:
            await worker.run(b'"' + b"x" * size + b'"')
            await client.wait_for(handle.id)
            await client.delete(handle)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sizes == [size + 2] * 100
        assert kept < 10 * size
