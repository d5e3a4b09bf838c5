# /// script
# requires-python = ">=3.11"
# dependencies = ["chancy==0.26.0", "psycopg[binary]==3.3.9", "psycopg-pool==3.3.3"]
# ///
"""chancy with its asynchronous executor, eager polling and its default plugins, which keep finished jobs for a day."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from chancy import Chancy, Job, Queue, Worker, job
from protocol import Adder, Contestant, Tally, main

QUEUE = "bench"

tally: Tally
seconds: float


@job(queue=QUEUE)
async def nothing(*, text: str = "") -> None:
    """Count the run, then sleep for as long as the scenario says."""
    tally.ran()
    if seconds:
        await asyncio.sleep(seconds)


@job(queue=QUEUE)
async def stamp(*, sent: float) -> None:
    """Record the time from adding the job to its handler."""
    tally.picked_up(sent)


def chancy_at(url: str, pool: int = 10) -> Chancy:
    """Return an app that logs no line for each job."""
    log = logging.getLogger("bench")
    log.setLevel(logging.WARNING)
    return Chancy(url, log=log, max_connection_pool_size=pool)


class ChancyRival(Contestant):
    """Workers claim as many jobs as they have room for, and settle once a second."""

    name = "chancy"
    packages = ("chancy", "psycopg", "psycopg-binary", "psycopg-pool")
    imports: ClassVar[dict[str, str]] = {"postgresql": "from chancy import Chancy"}
    connects = "Chancy(url).pool.open(wait=True)"
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {
        "work": [{"concurrency": 100}, {"concurrency": 500}, {"concurrency": 2000}],
        "group": [{"pool": 1}, {"pool": 4}, {"pool": 20}],
    }
    caveats: ClassVar[Sequence[str]] = (
        "Settles finished jobs once a second, and starts others meanwhile: a drain is over before it is settled.",
        "Keeps no results.",
        "Its call for many jobs sends a statement for each, in one transaction.",
    )

    def setup(self) -> None:
        """Migrate, and declare the queue."""
        asyncio.run(self._setup())

    async def _setup(self) -> None:
        async with chancy_at(self.url) as chancy:
            await chancy.migrate()
            await chancy.declare(self._queue())

    def _queue(self) -> Queue:
        concurrency = self.options.get("concurrency", 500)
        return Queue(QUEUE, concurrency=concurrency, executor=Chancy.Executor.Async, eager_polling=True)

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add in bulk."""
        asyncio.run(self._fill(jobs, "x" * payload, delay, 5 if higher else 0))

    async def _fill(self, jobs: int, text: str, delay: float, priority: int) -> None:
        added = nothing.job.with_kwargs(text=text).with_priority(priority)
        if delay:
            added = added.with_scheduled_at(datetime.now(UTC) + timedelta(seconds=delay))
        async with chancy_at(self.url) as chancy:
            async for _ in chancy.push_many([added] * jobs):
                pass

    def work(self) -> None:
        """Serve until SIGTERM, which the worker handles itself."""
        global tally, seconds
        assert self.tally is not None
        tally, seconds = self.tally, self.sleep
        asyncio.run(self._work())

    async def _work(self) -> None:
        async with chancy_at(self.url) as chancy:
            await chancy.declare(self._queue(), upsert=True)
            async with Worker(chancy) as worker:
                await worker.wait_for_shutdown()

    def adder(self, payload: int) -> Adder:
        """Add through a pool of the setting `pool` connections."""
        added = nothing.job.with_kwargs(text="x" * payload)
        return ChancyAdder(chancy_at(self.url, self.options.get("pool", 1)), added)


class ChancyAdder(Adder):
    """Adds through an app."""

    def __init__(self, chancy: Chancy, added: Job) -> None:
        self.chancy = chancy
        self.added = added

    async def __aenter__(self) -> Adder:
        """Connect."""
        await self.chancy.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await self.chancy.__aexit__(None, None, None)

    async def one(self, n: int) -> None:
        """Add one."""
        await self.chancy.push(self.added)

    async def many(self, count: int) -> None:
        """Add a batch in one transaction."""
        async for _ in self.chancy.push_many([self.added] * count, batch_size=count):
            pass

    async def stamp(self) -> None:
        """Add a job that records when it was added."""
        await self.chancy.push(stamp.job.with_kwargs(sent=time.monotonic()))


if __name__ == "__main__":
    main(ChancyRival)
