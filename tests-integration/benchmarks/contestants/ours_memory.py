"""jobq on its memory storage, where client and worker are one process.

A worker fills its own queue before it serves, with the number of jobs in the setting `fill`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import ours
from protocol import Adder, main

from jobq_client import JobHandle, JobQueueClient
from jobq_core.memory import MemoryQueueStorage
from jobq_worker import JobQueueWorker


class JobqMemory(ours.Jobq):
    """The same promises, for as long as the process lives."""

    storages = ("memory",)
    imports: ClassVar[dict[str, str]] = {}

    def setup(self) -> None:
        """Do nothing: there are no tables."""

    def work(self) -> None:
        """Fill, then serve with one worker."""
        assert self.tally is not None
        ours.tally, ours.seconds = self.tally, self.sleep
        asyncio.run(self._fill_and_work())

    async def _fill_and_work(self) -> None:
        storage = MemoryQueueStorage()
        text = "x" * self.options.get("payload", 0)
        async with storage, JobQueueClient(storage, queue=ours.QUEUE) as client:
            jobs = self.options["fill"]
            for start in range(0, jobs, 1000):
                await client.add_many([ours.nothing(n=n, text=text) for n in range(start, min(start + 1000, jobs))])
            await self._worker(storage).run()

    def _worker(self, storage: MemoryQueueStorage) -> JobQueueWorker:
        concurrency = self.options.get("concurrency", 100)
        return JobQueueWorker(storage, jobs=[ours.nothing, ours.stamp], queues=[ours.QUEUE], concurrency=concurrency)

    def adder(self, payload: int) -> Adder:
        """Add with a client, and with a worker in the same process if a verb needs one, which then counts runs."""
        storage = MemoryQueueStorage()
        worker: JobQueueWorker | None = None
        if self.tally is not None:
            ours.tally, ours.seconds = self.tally, self.sleep
            worker = self._worker(storage)
        return MemoryAdder(storage, "x" * payload, worker)


class MemoryAdder(ours.JobqAdder):
    """Adds jobs while a worker runs in the same process."""

    def __init__(self, storage: MemoryQueueStorage, text: str, worker: JobQueueWorker | None) -> None:
        super().__init__(JobQueueClient(storage), text)
        self.storage = storage
        self.worker = worker
        self.last: JobHandle[None] | None = None

    async def __aenter__(self) -> Adder:
        """Start both."""
        await self.storage.open()
        await super().__aenter__()
        if self.worker is not None:
            await self.worker.start()
        return self

    async def __aexit__(self, *error: Any) -> None:
        """Stop both after the last `stamp` job has run."""
        if self.last is not None:
            await self.client.wait_for(self.last, timeout=30)
        if self.worker is not None:
            await self.worker.stop()
        await super().__aexit__(*error)
        await self.storage.close()

    async def stamp(self) -> None:
        """Add a job that records when it was added."""
        self.last = await self.client.add(ours.stamp(sent=time.monotonic()))


if __name__ == "__main__":
    main(JobqMemory)
