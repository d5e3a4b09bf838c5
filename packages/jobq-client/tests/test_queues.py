"""Pausing queues and setting their options."""

from __future__ import annotations

from typing import Any

import pytest

from jobq_client import JobQueueClient
from jobq_core import ClosedError, ConfigurationError, Retention

from .helpers import ManualWorker, Probe
from .jobs import keep


async def test_a_paused_queue_takes_jobs_and_gives_none_until_it_is_resumed(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    await client.pause()
    handle = await client.add(keep(1))
    assert not await worker.claim()
    (record,) = await client.queues()
    assert (record.name, record.paused_at is not None) == ("default", True)
    await client.resume()
    assert [job.id for job in await worker.claim()] == [handle.id]
    assert all(record.paused_at is None for record in await client.queues())


async def test_only_the_named_queue_is_paused(client: JobQueueClient, worker: ManualWorker) -> None:
    await client.pause("mail")
    handle = await client.add(keep(1))
    assert [job.id for job in await worker.claim()] == [handle.id]


async def test_options_that_are_not_given_stay_as_they_are(client: JobQueueClient) -> None:
    kept = Retention(completed=60)
    await client.set_queue("mail", retention=kept)
    await client.set_queue("mail", paused=True)
    (record,) = await client.queues()
    assert (record.name, record.retention, record.owner) == ("mail", kept, "operator")
    assert record.paused_at is not None


@pytest.mark.parametrize("options", [{"paused": 1}, {"retention": 60}, {"retention": "a day"}])
async def test_invalid_options_are_refused(client: JobQueueClient, options: Any) -> None:
    with pytest.raises(ConfigurationError):
        await client.set_queue(**options)
    with pytest.raises(ConfigurationError):
        await client.pause("")


async def test_a_client_that_is_not_running_refuses(storage: Probe) -> None:
    client = JobQueueClient(storage)
    with pytest.raises(ClosedError):
        await client.pause()
    with pytest.raises(ClosedError):
        await client.queues()


async def test_a_paused_queue_tells_who_paused_it(client: JobQueueClient) -> None:
    handle = await client.add(keep(1))
    await client.pause(actor="kai@web1")
    (record,) = await client.queues()
    assert record.paused_by == "kai@web1"
    reason = await client.why(handle)
    assert reason.code == "queue-paused"
    assert "kai@web1" in reason.sentence
    with pytest.raises(ConfigurationError, match="actor must be text"):
        await client.pause(actor="")
