# /// script
# requires-python = ">=3.11"
# dependencies = ["procrastinate==3.10.0", "psycopg[binary]==3.3.9", "psycopg-pool==3.3.3"]
# ///
"""procrastinate on psycopg's pool, its asynchronous connector, with finished jobs kept, as its default is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from procrastinate import App, PsycopgConnector
from protocol import Adder, Contestant, Tally, main

BATCH = 1000

tally: Tally
seconds: float


async def nothing(text: str = "") -> None:
    """Count the run, then sleep for as long as the scenario says."""
    tally.ran()
    if seconds:
        await asyncio.sleep(seconds)


async def stamp(sent: float) -> None:
    """Record the time from adding the job to its handler."""
    tally.picked_up(sent)


class Queue:
    """An app with the two tasks."""

    def __init__(self, url: str, pool: int) -> None:
        self.app = App(connector=PsycopgConnector(conninfo=url, min_size=pool, max_size=pool))
        self.nothing = self.app.task(name="nothing", queue="bench")(nothing)
        self.stamp = self.app.task(name="stamp", queue="bench")(stamp)


class Procrastinate(Contestant):
    """Workers claim jobs one by one in SQL functions, listening for new ones."""

    name = "procrastinate"
    packages = ("procrastinate", "psycopg", "psycopg-binary", "psycopg-pool")
    imports: ClassVar[dict[str, str]] = {"postgresql": "from procrastinate import App, PsycopgConnector"}
    connects = "App(connector=PsycopgConnector(conninfo=url, min_size=1)).open_async()"
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {
        "work": [
            {"concurrency": 10, "pool": 4},
            {"concurrency": 30, "pool": 10},
            {"concurrency": 100, "pool": 20},
        ],
        "group": [{"pool": 1}, {"pool": 4}, {"pool": 20}],
    }
    caveats: ClassVar[Sequence[str]] = (
        "Claims and settles every job in a statement of its own.",
        "Keeps no results: what a task returns is only logged.",
        "Jobs of a worker that died stay 'doing' until a periodic task that the user has to write rescues them.",
    )

    def setup(self) -> None:
        """Apply the schema."""
        asyncio.run(self._setup())

    async def _setup(self) -> None:
        app = Queue(self.url, pool=1).app
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add in bulk."""
        asyncio.run(self._fill(jobs, "x" * payload, delay, 5 if higher else 0))

    async def _fill(self, jobs: int, text: str, delay: float, priority: int) -> None:
        queue = Queue(self.url, pool=1)
        # Without a delay no time is set at all, so that claims need not compare one.
        due = queue.nothing.configure(priority=priority, schedule_in={"seconds": delay} if delay else None)
        async with queue.app.open_async():
            for start in range(0, jobs, BATCH):
                await due.batch_defer_async(*[{"text": text}] * min(BATCH, jobs - start))

    def work(self) -> None:
        """Serve until SIGTERM, which the worker handles itself."""
        global tally, seconds
        assert self.tally is not None
        tally, seconds = self.tally, self.sleep
        asyncio.run(self._work())

    async def _work(self) -> None:
        app = Queue(self.url, self.options.get("pool", 10)).app
        async with app.open_async():
            await app.run_worker_async(queues=["bench"], concurrency=self.options.get("concurrency", 30))

    def adder(self, payload: int) -> Adder:
        """Add through a pool of the setting `pool` connections."""
        return ProcrastinateAdder(Queue(self.url, self.options.get("pool", 1)), "x" * payload)


class ProcrastinateAdder(Adder):
    """Adds through tasks."""

    def __init__(self, queue: Queue, text: str) -> None:
        self.queue = queue
        self.text = text

    async def __aenter__(self) -> Adder:
        """Connect."""
        await self.queue.app.open_async()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await self.queue.app.close_async()

    async def one(self, n: int) -> None:
        """Add one."""
        await self.queue.nothing.defer_async(text=self.text)

    async def many(self, count: int) -> None:
        """Add a batch in one statement."""
        await self.queue.nothing.batch_defer_async(*[{"text": self.text}] * count)

    async def stamp(self) -> None:
        """Add a job that records when it was added."""
        await self.queue.stamp.defer_async(sent=time.monotonic())


if __name__ == "__main__":
    main(Procrastinate)
