"""`JobQueue` and the server: their methods have the types of the client's and the pool's methods."""

from datetime import timedelta
from typing import Any, assert_type

from jobq_client import JobHandle, JobQueueClient
from jobq_core import ConcurrencyLimiter, ErrorRecord, Job, JobFailed, JobRecord, JobStarted, JobSummary, Retention, job
from jobq_server import JobQueue, JobQueueServer, PoolStats, QueueMode, ServerStats


@job()
async def length(text: str) -> int:
    return len(text)


@job()
class Thumbnail(Job[bytes]):
    path: str


queue = JobQueue("shop", jobs=[length], mode=QueueMode.BOTH, worker_count=3, retention=Retention(completed=60))
JobQueue("shop", storage="sqlite:///shop.db", mode="client", limiter=ConcurrencyLimiter(2))
JobQueue(jobs=[length])  # E: a queue has a name
JobQueue("shop", workers=3)  # E: the option is called worker_count
JobQueue("shop", lost_after="soon")  # E: it is a number of seconds
JobQueue("shop", lost_after=timedelta(minutes=1), stop_timeout=5)
JobQueueServer()
server = JobQueueServer("memory://", jobs=[length], queues=["a", "b"], worker_count=2, stop_timeout=5)
JobQueueServer("memory://", worker_count="many")  # E: it is a number
JobQueueServer("memory://", concurrency=3)  # E: that is a worker's option
server.scale("two")  # E: as here


@queue.handles(Thumbnail)
async def make(thumbnail: Thumbnail) -> bytes:
    return thumbnail.path.encode()


def alert(event: JobFailed) -> None:
    assert_type(event.error, ErrorRecord | None)


queue.on(JobFailed, alert)
server.once(JobFailed, alert)
queue.on(JobStarted, alert)  # E: this one takes failures


async def use() -> None:
    handle = await queue.add(length(text="a"), priority=3, delay=30)
    assert_type(handle, JobHandle[int])
    assert_type(await queue.wait_for(handle, timeout=60), int)
    assert_type(await queue.wait_for("0192"), Any)
    assert_type(await queue.add_many([length(text="a")]), list[JobHandle[int]])
    assert_type(await queue.get(handle), JobRecord | None)
    assert_type(queue.client, JobQueueClient)
    assert_type(queue.server, JobQueueServer)
    assert_type(await queue.stats(), ServerStats)
    assert_type(await queue.output_for(length(text="a")), int | None)
    assert_type(await queue.peek(3), list[JobSummary])
    await queue.start(QueueMode.CLIENT)
    await queue.restart(timeout=timedelta(seconds=5))
    await queue.start(mode=3)  # E: a mode has a name
    assert_type(server.pool_stats(), PoolStats)
    assert_type(await queue.next_event(JobFailed), JobFailed)
    assert_type((await server.stats()).total.average_seconds, float)
    await queue.add(length(text="a"), priority="high")  # E: a priority is a number
    await queue.add("length")  # E: a string is not a job
    await make(Thumbnail(path="a"))
    async with server, queue.events(JobFailed) as failures:
        async for failure in failures:
            assert_type(failure, JobFailed)
