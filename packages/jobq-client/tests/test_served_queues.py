"""A job in a queue that no live worker serves is named, once per queue in the log and in each WaitTimeoutError."""

from __future__ import annotations

import asyncio
import time

import pytest

from jobq_client import JobQueueClient, served_queues
from jobq_core import JobState, StorageError, WaitTimeoutError

from .helpers import ManualWorker, Probe, until
from .jobs import keep, send_receipt


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the queue of a job as soon as its first status was read, and read the workers each time."""
    monkeypatch.setattr(served_queues, "GRACE_SECONDS", 0.001)
    monkeypatch.setattr(served_queues, "REREAD_SECONDS", 0.0)


async def test_a_wait_of_the_usual_length_does_not_read_the_workers(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(send_receipt(1))
    waiting_for = asyncio.create_task(handle.result(timeout=3600))
    await until(lambda: storage.calls["get_status"] == 1)
    await worker.run(b'"sent"')
    assert await waiting_for == "sent"
    assert storage.calls["workers"] == 0


@pytest.mark.parametrize(
    ("queue", "problem"),
    [
        ("mial", "no worker serves queue 'mial'; did you mean 'mail'?"),
        ("images", "no worker serves queue 'images'; the running workers serve default, mail"),
    ],
)
async def test_a_timeout_names_a_queue_that_no_worker_serves(
    client: JobQueueClient, worker: ManualWorker, queue: str, problem: str
) -> None:
    handle = await client.add(keep(1), queue=queue)
    for timeout in (0, 0.01):
        with pytest.raises(WaitTimeoutError) as caught:
            await client.wait_for(handle, timeout=timeout)
        late = f"job {handle.id} has not ended after {timeout:g} seconds"
        assert str(caught.value) == f"{late}: it is pending, and {problem}"


async def test_a_timeout_says_that_no_worker_is_running_at_all(storage: Probe, client: JobQueueClient) -> None:
    handle = await client.add(keep(1))
    with pytest.raises(WaitTimeoutError, match="it is pending, and no worker is running on this storage"):
        await handle.result(timeout=0)


async def test_a_worker_whose_heartbeat_expired_serves_nothing() -> None:
    ago = 100.0
    async with Probe(clock=lambda: time.time() - ago) as storage:
        await ManualWorker(storage, lost_after=99).register()
        ago = 0.0
        async with JobQueueClient(storage) as client:
            with pytest.raises(WaitTimeoutError, match="no worker is running"):
                await client.wait_for(await client.add(keep(1)), timeout=0)


async def test_a_timeout_does_not_name_a_served_queue_or_the_queue_of_a_running_job(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    pending = await client.add(keep(1))
    with pytest.raises(WaitTimeoutError, match=r"it is pending$"):
        await pending.result(timeout=0)
    await worker.claim_one()
    await storage.deregister(worker.id)
    with pytest.raises(WaitTimeoutError, match=r"it is processing$"):
        await pending.result(timeout=0)


async def test_the_workers_are_read_once_for_many_timeouts(storage: Probe, client: JobQueueClient) -> None:
    handles = await client.add_many(keep(n) for n in range(100))
    await asyncio.gather(*(handle.result(timeout=0) for handle in handles), return_exceptions=True)
    assert storage.calls["workers"] == 1


async def test_workers_that_cannot_be_read_leave_the_timeout_as_it_is(storage: Probe, client: JobQueueClient) -> None:
    handle = await client.add(keep(1))
    storage.fail("workers", StorageError("no such table"))
    with pytest.raises(WaitTimeoutError, match=r"it is pending$"):
        await handle.result(timeout=0)


async def test_workers_that_are_read_slowly_delay_the_timeout_little(
    storage: Probe, client: JobQueueClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_queues, "READ_TIMEOUT", 0.001)
    handle = await client.add(keep(1))
    storage.hold("workers")
    with pytest.raises(WaitTimeoutError, match=r"it is pending$"):
        await handle.result(timeout=0)


@pytest.mark.usefixtures("at_once")
async def test_a_wait_in_an_unserved_queue_is_logged_once_per_queue(
    storage: Probe, client: JobQueueClient, worker: ManualWorker, caplog: pytest.LogCaptureFixture
) -> None:
    handles = [await client.add(keep(1), queue=queue) for queue in ("mial", "mial", "images", "mail")]
    waits = [asyncio.create_task(client.wait_for(handle)) for handle in handles]
    await until(lambda: storage.calls["workers"] == 3)
    await until(lambda: len(caplog.messages) == 2)
    assert caplog.messages == [
        f"job {handles[0].id} is pending, and no worker serves queue 'mial'; did you mean 'mail'?",
        f"job {handles[2].id} is pending, and no worker serves queue 'images'; the running workers serve default, mail",
    ]
    for handle in handles:
        await client.abort(handle)
    await asyncio.gather(*waits, return_exceptions=True)


@pytest.mark.usefixtures("at_once")
async def test_a_job_that_ends_while_its_queue_is_checked_is_returned_at_once(
    storage: Probe, client: JobQueueClient, worker: ManualWorker
) -> None:
    gate = storage.hold("workers")
    handle = await client.add(send_receipt(1))
    waiting_for = asyncio.create_task(handle.result())
    await until(lambda: storage.calls["workers"] == 1)
    await worker.run(b'"sent"')
    assert await waiting_for == "sent"
    gate.set()


@pytest.mark.usefixtures("at_once")
async def test_a_check_under_way_ends_with_the_client(storage: Probe) -> None:
    async with JobQueueClient(storage) as client:
        storage.hold("workers")
        handle = await client.add(keep(1))
        waiting_for = asyncio.create_task(handle.result())
        await until(lambda: storage.calls["workers"] == 1)
    await asyncio.gather(waiting_for, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (await storage.counts())["default"][JobState.PENDING] == 1
