"""The testing kit: results have the declared type, and clients of each kind are accepted."""

from typing import assert_type

from jobq_client import JobQueueClient, SyncJobQueueClient
from jobq_client.testing import EagerJobQueueClient, EagerSyncJobQueueClient
from jobq_core import Job, JobRecord, job
from jobq_core.testing import (
    Drained,
    ManualClockStorage,
    assert_added,
    assert_not_added,
    drain,
    drain_sync,
    run_inline,
    run_inline_sync,
)


@job
async def send(to: str) -> str:
    return to


@job
class Resize(Job[int]):
    width: int

    def execute(self) -> int:
        return self.width


async def run_one() -> None:
    assert_type(await run_inline(send("ann")), str)
    assert_type(run_inline_sync(Resize(width=4)), int)
    await run_inline(send)  # E: a kind is not a job


async def use(client: JobQueueClient, sync: SyncJobQueueClient, storage: ManualClockStorage) -> None:
    storage.clock.advance(60)
    assert_type(assert_added(client, send, to="ann"), JobRecord)
    assert_added(sync, Resize, width=4)
    assert_added(storage, send("ann"), queue="mail")
    assert_not_added(client)
    assert_type(await drain(client), Drained)
    assert_type(drain_sync(sync, advance=True), Drained)
    assert_added("memory://", send)  # E: a URL is not a client


async def eager(client: EagerJobQueueClient, sync: EagerSyncJobQueueClient) -> None:
    assert_type(await (await client.add(send("ann"))).result(), str)
    assert_type(sync.add(Resize(width=4)).result(), int)
