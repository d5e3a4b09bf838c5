"""jobq on the storages that processes can share."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

from protocol import Adder, Contestant, Tally, main

from jobq_client import JobQueueClient
from jobq_core import job, open_storage
from jobq_worker import JobQueueWorker

QUEUE = "bench"

tally: Tally
seconds: float


@job(queue=QUEUE)
async def nothing(n: int, text: str = "") -> None:
    """Count the run, then sleep for as long as the scenario says."""
    tally.ran()
    if seconds:
        await asyncio.sleep(seconds)


@job(queue=QUEUE)
async def stamp(sent: float) -> None:
    """Record the time from adding the job to its handler."""
    tally.picked_up(sent)


class Jobq(Contestant):
    """jobq with all its promises: leases, attempts, results and history."""

    name = "jobq"
    can = Contestant.can | {"ask"}
    packages = ("jobq-core", "jobq-client", "jobq-worker")
    storages = ("postgresql", "sqlite")
    imports: ClassVar[dict[str, str]] = {
        "postgresql": "from jobq_client import JobQueueClient; import jobq_storage_postgres",
        "sqlite": "from jobq_client import JobQueueClient; import jobq_storage_sqlite",
    }
    connects = "JobQueueClient(url).start()"
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {"work": [{"concurrency": 100}]}

    @property
    def queues(self) -> list[str]:
        """Return the queues in use: one, or as many as the setting `queues`."""
        return [QUEUE, *(f"{QUEUE}-{n}" for n in range(1, self.options.get("queues", 1)))]

    def setup(self) -> None:
        """Migrate."""
        asyncio.run(self._migrate())

    async def _migrate(self) -> None:
        await open_storage(self.url).migrate()

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add in bulk."""
        asyncio.run(self._fill(jobs, payload, delay, 5 if higher else 0))

    async def _fill(self, jobs: int, payload: int, delay: float, priority: int) -> None:
        async with JobQueueClient(self.url) as client:
            size = max(min(1000, jobs // len(self.queues)), 1)
            for start in range(0, jobs, size):
                batch = [nothing(n=n, text="x" * payload) for n in range(start, min(start + size, jobs))]
                queue = self.queues[start // size % len(self.queues)]
                if delay:
                    await client.add_many(batch, queue=queue, priority=priority, delay=delay)
                else:
                    await client.add_many(batch, queue=queue, priority=priority)

    def work(self) -> None:
        """Serve with one worker."""
        global tally, seconds
        assert self.tally is not None
        tally, seconds = self.tally, self.sleep
        asyncio.run(self._work())

    async def _work(self) -> None:
        concurrency = self.options.get("concurrency", 100)
        worker = JobQueueWorker(self.url, jobs=[nothing, stamp], queues=self.queues, concurrency=concurrency)
        await worker.run()

    def adder(self, payload: int) -> Adder:
        """Add with a client."""
        return JobqAdder(JobQueueClient(self.url), "x" * payload)


class JobqAdder(Adder):
    """Adds through a JobQueueClient."""

    def __init__(self, client: JobQueueClient, text: str) -> None:
        self.client = client
        self.text = text

    async def __aenter__(self) -> Adder:
        """Connect."""
        await self.client.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await self.client.stop()

    async def one(self, n: int) -> None:
        """Add one."""
        await self.client.add(nothing(n=n, text=self.text))

    async def ask(self, n: int) -> None:
        """Add a job and wait for its result."""
        await self.client.wait_for(await self.client.add(nothing(n=n, text=self.text)), timeout=60)

    async def many(self, count: int) -> None:
        """Add a batch."""
        await self.client.add_many([nothing(n=n, text=self.text) for n in range(count)])

    async def stamp(self) -> None:
        """Add a job that records when it was added."""
        await self.client.add(stamp(sent=time.monotonic()))


if __name__ == "__main__":
    main(Jobq)
