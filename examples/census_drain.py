"""Measure how many no-op jobs one worker drains in three seconds, and print the number and the seconds as JSON.

python examples/census_drain.py sqlite:///jobs.db
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from census_jobs import NOOP_QUEUE, noop

from jobq_client import JobQueueClient
from jobq_worker import JobQueueWorker

DRAIN_SECONDS = 3.0
FILL_SECONDS = 4.0
"""How long jobs are added. They last for three seconds unless adding is slower than draining."""

MOST = 400_000
BATCH = 10_000


async def drain(storage: str) -> dict[str, float]:
    """Fill a queue with no-op jobs, run a worker on it for three seconds or until it is empty, and clear it."""
    async with JobQueueClient(storage, queue=NOOP_QUEUE) as client:
        added = await fill(client)
        worker = JobQueueWorker(storage, jobs=[noop], queues=[NOOP_QUEUE], concurrency=100)
        async with worker:
            first = await until_more(worker, 0)
            began = time.monotonic()
            done = first
            while done < added and time.monotonic() - began < DRAIN_SECONDS:
                done = await until_more(worker, done)
            seconds = time.monotonic() - began
            worker.resize(0)
        await client.clear()
    return {"jobs": done - first, "seconds": seconds}


async def fill(client: JobQueueClient) -> int:
    """Add jobs for a few seconds, and return how many."""
    added, began = 0, time.monotonic()
    while added < MOST and time.monotonic() - began < FILL_SECONDS:
        await client.add_many([noop()] * BATCH)
        added += BATCH
    return added


async def until_more(worker: JobQueueWorker, done: int) -> int:
    """Wait until the worker has completed more than `done` jobs, and return how many."""
    while (now := worker.pool_stats().total.completed) <= done:  # noqa: ASYNC110  (polling costs the drain less than an event per job)
        await asyncio.sleep(0.005)
    return now


if __name__ == "__main__":
    print(json.dumps(asyncio.run(drain(sys.argv[1]))))
