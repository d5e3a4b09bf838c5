"""`SyncJobQueueClient`: its results have the types that the async client's have, without `await`."""

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, assert_type

from jobq_client import JobHandle, SyncEventStream, SyncJobHandle, SyncJobQueueClient
from jobq_core import Job, JobFailed, JobRecord, JobSummary, Progress, job


@job()
async def length(text: str) -> int:
    return len(text)


@job()
class Thumbnail(Job[bytes]):
    path: str


client = SyncJobQueueClient("sqlite:///shop.db", patience=3)
SyncJobQueueClient("sqlite:///shop.db", retries=3)  # E: there is no such option


def alert(event: JobFailed) -> None:
    assert_type(event.job_id.hex, str)


def use() -> None:
    with client as same:
        assert_type(same, SyncJobQueueClient)
    handle = client.add(length(text="a"), priority=3, delay=30)
    assert_type(handle, SyncJobHandle[int])
    assert_type(handle.result(timeout=5), int)
    assert_type(client.wait_for(handle), int)
    assert_type(client.wait_for("0192"), Any)
    assert_type(client.add_many([Thumbnail("a"), Thumbnail("b")]), list[SyncJobHandle[bytes]])
    assert_type(client.handle("0192", Thumbnail), SyncJobHandle[bytes])
    assert_type(client.get(handle), JobRecord | None)
    assert_type(client.output_for(length(text="a")), int | None)
    assert_type(client.events(JobFailed), SyncEventStream[JobFailed])
    assert_type(client.next_event(JobFailed), Future[JobFailed])
    client.on(JobFailed, alert)
    for progress in handle.follow():
        assert_type(progress, Progress)
    for found in client.find_all(kind=length):
        assert_type(found, JobSummary)
    client.add(length(text="a"), priority="high")  # E: a number
    client.add(length(txt="a"))  # E: the job has no such field
    client.wait_for(handle, timeout="5")  # E: a number or a timedelta
    many: Iterable[JobHandle[bytes]] = client.add_many([Thumbnail("a")])  # E: those of the async client are others
    del many


async def misuse() -> None:
    await client.add(length(text="a"))  # E: nothing to await
