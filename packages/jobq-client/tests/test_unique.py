from __future__ import annotations

import asyncio

import pytest

from jobq_client import JobQueueClient
from jobq_core import ConfigurationError

from .helpers import ManualWorker, Probe, total
from .jobs import keep, send_receipt


async def test_50_concurrent_adds_with_one_key_make_one_job_and_one_handle_is_created(
    storage: Probe, client: JobQueueClient
) -> None:
    handles = await asyncio.gather(*(client.add(send_receipt(n), unique="one") for n in range(50)))
    assert await total(storage) == 1
    assert len({handle.id for handle in handles}) == 1
    assert [handle.created for handle in handles].count(True) == 1
    assert len(set(handles)) == 1


async def test_50_clients_with_one_key_make_one_job(storage: Probe) -> None:
    clients = [JobQueueClient(storage) for _ in range(50)]
    await asyncio.gather(*(client.start() for client in clients))
    handles = await asyncio.gather(*(client.add(send_receipt(1), unique="one") for client in clients))
    assert await total(storage) == 1
    assert [handle.created for handle in handles].count(True) == 1
    await asyncio.gather(*(client.stop() for client in clients))


async def test_a_key_is_free_again_when_its_job_has_finished(client: JobQueueClient, worker: ManualWorker) -> None:
    first = await client.add(send_receipt(1), unique="one")
    await worker.run()
    second = await client.add(send_receipt(1), unique="one")
    assert second.created
    assert second.id != first.id


async def test_a_key_belongs_to_a_queue(client: JobQueueClient) -> None:
    assert (await client.add(send_receipt(1), unique="one", queue="a")).created
    assert (await client.add(send_receipt(1), unique="one", queue="b")).created


async def test_a_unique_job_whose_answer_was_lost_is_still_the_callers_own(
    storage: Probe, client: JobQueueClient
) -> None:
    storage.fail("add", after=True)
    handle = await client.add(send_receipt(1), unique="one")
    assert handle.created
    assert await total(storage) == 1


async def test_add_many_with_one_key_makes_one_job(storage: Probe, client: JobQueueClient) -> None:
    handles = await client.add_many([send_receipt(1), send_receipt(2)], unique="one")
    assert [handle.created for handle in handles] == [True, False]
    assert handles[0] == handles[1]


async def test_the_result_of_another_kind_under_the_same_key_is_refused(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    await client.add(keep(1), unique="one")
    handle = await client.add(send_receipt(1), unique="one")
    assert not handle.created
    await worker.run(b"12")
    with pytest.raises(ConfigurationError, match=r"is a 'keep' and not a 'send_receipt'"):
        await handle.result()
    assert await client.wait_for(handle.id) == 12
