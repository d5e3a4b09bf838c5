"""Handles: of added jobs, and from an id."""

from __future__ import annotations

from uuid import uuid4

import pytest

from jobq_client import JobHandle, JobQueueClient
from jobq_core import ConfigurationError, InvalidJobError, JobNotFoundError, Progress

from .helpers import ManualWorker
from .jobs import Receipt, Thumbnail, keep, print_receipt, send_letter


async def test_a_handle_from_an_id_gives_the_declared_type(client: JobQueueClient, worker: ManualWorker) -> None:
    added = await client.add(print_receipt(3))
    await worker.run(b'{"number":3,"lines":["a"]}')
    for handle in (client.handle(added.id, print_receipt), client.handle(str(added.id), print_receipt)):
        assert await handle.result(timeout=60) == Receipt(3, ["a"])
        assert handle == added
        assert (handle.kind, handle.queue, handle.created) == ("print_receipt", "default", False)


async def test_a_handle_from_an_id_follows_and_aborts(client: JobQueueClient) -> None:
    added = await client.add(Thumbnail("a"))
    handle = client.handle(added.id, Thumbnail)
    assert await handle.progress() == Progress()
    assert await handle.abort()
    assert [progress async for progress in handle.follow()] == []


async def test_a_handle_of_another_kind_than_the_job_is_refused_when_it_is_waited_for(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    added = await client.add(print_receipt(3))
    await worker.run(b'{"number":3,"lines":["a"]}')
    with pytest.raises(ConfigurationError, match=r"is a 'print_receipt' and not a 'keep'"):
        await client.handle(added.id, keep).result()


async def test_a_handle_of_an_unknown_job_raises_when_it_is_used(client: JobQueueClient) -> None:
    handle = client.handle(uuid4(), send_letter)
    assert handle.queue == "mail"
    with pytest.raises(JobNotFoundError):
        await handle.result(timeout=0)


def test_an_invalid_id_or_kind_is_refused() -> None:
    client = JobQueueClient("memory://")
    with pytest.raises(InvalidJobError, match="'seven' is not a job id"):
        client.handle("seven", keep)
    with pytest.raises(ConfigurationError, match="'keep' is no"):
        client.handle(uuid4(), "keep")  # type: ignore[call-overload]


async def test_handles_are_equal_by_id_and_can_be_keys(client: JobQueueClient) -> None:
    one, two = await client.add_many([keep(1), keep(2)])
    assert one != two
    assert one != one.id
    assert {one: 1, two: 2}[JobHandle(client, one.definition, id=one.id, queue="x", created=True)] == 1
    assert repr(one) == f"<JobHandle {one.id} (keep, queue 'default')>"
