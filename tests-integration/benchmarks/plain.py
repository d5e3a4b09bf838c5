"""One plain measurement per storage: adds, drain, pick-up. Figures for orientation, not a comparison.

    python tests-integration/benchmarks/plain.py --storage sqlite:///bench.db [--jobs 20000] [--profile]

The client is this process, the worker another. Prints one JSON line. On memory storage both are this process.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import io
import json
import pstats
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from jobq_client import JobQueueClient
from jobq_core import QueueStorage, job, open_storage
from jobq_worker import JobQueueWorker

QUEUE = "bench"


class Counter:
    """Counts runs in the worker's process and tells when there were enough."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.seen = 0
        self.enough = asyncio.Event()

    def one(self) -> None:
        """Count one run."""
        self.seen += 1
        if self.seen == self.wanted:
            self.enough.set()


counter: Counter | None = None


@job(queue=QUEUE)
async def nothing(n: int) -> None:
    """Do nothing, and count it."""
    if counter is not None:
        counter.one()


@job(queue=QUEUE)
async def picked_up(sent: float) -> float:
    """Return the milliseconds since the job was submitted."""
    return (time.time() - sent) * 1000


async def drain(storage: QueueStorage, jobs: int, concurrency: int) -> float:
    """Run `jobs` waiting jobs to the end with one worker and return jobs per second, the last settlement included."""
    global counter
    counter = Counter(jobs)
    worker = JobQueueWorker(storage, jobs=[nothing, picked_up], queues=[QUEUE], concurrency=concurrency)
    started = time.perf_counter()
    await worker.start()
    await counter.enough.wait()
    await worker.stop()
    return jobs / (time.perf_counter() - started)


async def rate(calls: int, per_call: int, call: Callable[[int], Awaitable[Any]]) -> float:
    """Make `calls` calls one after another and return jobs per second."""
    started = time.perf_counter()
    for n in range(calls):
        await call(n)
    return calls * per_call / (time.perf_counter() - started)


@asynccontextmanager
async def worker_process(url: str, storage: QueueStorage) -> AsyncIterator[None]:
    """Have an idle worker: another process, or for memory storage this one."""
    if url.startswith("memory:"):
        async with JobQueueWorker(storage, jobs=[nothing, picked_up], queues=[QUEUE]):
            yield
        return
    command = [sys.executable, "-m", "jobq_core", "worker", "plain", "--queue", QUEUE, "--storage", url]
    process = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parent)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def measure(url: str, jobs: int, concurrency: int) -> dict[str, Any]:
    """Measure everything on one storage."""
    random = Random(1)
    figures: dict[str, Any] = {"storage": url.split(":")[0]}
    async with open_storage(url) as storage, JobQueueClient(storage, queue=QUEUE) as client:
        figures["single adds/s"] = round(await rate(1000, 1, lambda n: client.add(nothing(n=n))))

        async def fifty(_: int) -> None:
            await asyncio.gather(*(client.add(nothing(n=n)) for n in range(50)))

        figures["adds/s, 50 at once"] = round(await rate(100, 50, fifty))
        batch = [nothing(n=n) for n in range(1000)]
        calls = max(jobs // 1000, 1)
        figures["add_many jobs/s, 1000 a call"] = round(await rate(calls, 1000, lambda _: client.add_many(batch)))
        waiting = await client.size()
        if url.startswith("memory:"):
            figures["drain jobs/s"] = round(await drain(storage, waiting, concurrency))
        else:
            figures["drain jobs/s"] = round(await drain_elsewhere(url, waiting, concurrency))
        figures["drained"] = waiting
        async with worker_process(url, storage):
            waits = []
            for _ in range(220):
                handle = await client.add(picked_up(sent=time.time()))
                waits.append(await client.wait_for(handle, timeout=30))
                await asyncio.sleep(0.01 + random.random() * 0.03)
            waits = sorted(waits[20:])  # the first meet a worker that is still starting
        figures["pick-up ms p50"] = round(statistics.median(waits), 2)
        figures["pick-up ms p99"] = round(waits[int(len(waits) * 0.99)], 2)
        await client.clear()
    return figures


async def drain_elsewhere(url: str, jobs: int, concurrency: int) -> float:
    """Drain in a process that does nothing else and return its jobs per second."""
    options = ["--storage", url, "--drain", str(jobs), "--concurrency", str(concurrency)]
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, *options, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return float(output)


async def drain_alone(url: str, jobs: int, concurrency: int) -> float:
    """Open the storage and drain it."""
    async with open_storage(url) as storage:
        return await drain(storage, jobs, concurrency)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--drain", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help="with --drain: print the profile's top entries")
    options = parser.parse_args()
    if options.drain:
        profile = cProfile.Profile() if options.profile else None
        if profile:
            profile.enable()
        print(asyncio.run(drain_alone(options.storage, options.drain, options.concurrency)))
        if profile:
            profile.disable()
            text = io.StringIO()
            pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(25)
            print(text.getvalue())
        return
    print(json.dumps(asyncio.run(measure(options.storage, options.jobs, options.concurrency))))


if __name__ == "__main__":
    # As the module the worker process imports, so that its jobs are the same in both.
    sys.modules["plain"] = sys.modules["__main__"]
    main()
