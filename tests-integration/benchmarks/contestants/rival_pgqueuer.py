# /// script
# requires-python = ">=3.11"
# dependencies = ["pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"]
# ///
"""pgqueuer on asyncpg, as its documentation advises, in the event loop that its own command line uses (uvloop)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, ClassVar

import asyncpg
import uvloop
from pgqueuer import Job, PgQueuer, Queries, run
from protocol import Adder, Contestant, Tally, main


class Pgqueuer(Contestant):
    """Workers claim and settle in batches; finished jobs leave the queue's table for rows of a log."""

    name = "pgqueuer"
    packages = ("pgqueuer", "asyncpg", "uvloop")
    imports: ClassVar[dict[str, str]] = {"postgresql": "import asyncpg; from pgqueuer import Queries"}
    connects = "asyncpg.connect(url)"
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {
        "work": [
            {"batch": 10, "pool": False},
            {"batch": 100, "pool": False},
            {"batch": 1000, "pool": False},
            {"batch": 100, "pool": True},
        ],
        "group": [{"pool": 0}, {"pool": 4}, {"pool": 20}],
    }
    caveats: ClassVar[Sequence[str]] = (
        "Deletes finished jobs: rows of a log keep their id, entrypoint and times, not their payload.",
        "Keeps no results: what a handler returns is thrown away.",
        "Settles a finished job up to 0.12 s later, together with others.",
        "Claims without a limit on how many jobs run at once, which is its default.",
    )

    def setup(self) -> None:
        """Install with the default, durable tables, and the autovacuum settings that its documentation advises."""
        uvloop.run(self._setup())

    async def _setup(self) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            queries = Queries.from_asyncpg_connection(connection)
            await queries.install()
            await queries.optimize_autovacuum()
        finally:
            await connection.close()

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add in bulk."""
        uvloop.run(self._fill(jobs, b"x" * payload, timedelta(seconds=delay), 5 if higher else 0))

    async def _fill(self, jobs: int, payload: bytes, delay: timedelta, priority: int) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            queries = Queries.from_asyncpg_connection(connection)
            for start in range(0, jobs, 1000):
                count = min(1000, jobs - start)
                await queries.enqueue(
                    ["nothing"] * count, [payload] * count, [priority] * count, execute_after=[delay] * count
                )
        finally:
            await connection.close()

    def work(self) -> None:
        """Serve until SIGTERM, which `pgqueuer.run` waits for."""
        assert self.tally is not None
        uvloop.run(self._work(self.tally))

    async def _work(self, tally: Tally) -> None:
        @asynccontextmanager
        async def factory() -> AsyncIterator[PgQueuer]:
            if self.options.get("pool"):
                async with asyncpg.create_pool(self.url) as pool:
                    yield self._with_handlers(PgQueuer.from_asyncpg_pool(pool), tally)
            else:
                connection = await asyncpg.connect(self.url)
                try:
                    yield self._with_handlers(PgQueuer.from_asyncpg_connection(connection), tally)
                finally:
                    await connection.close()

        await run(factory, batch_size=self.options.get("batch", 100))

    def _with_handlers(self, queue: PgQueuer, tally: Tally) -> PgQueuer:
        @queue.entrypoint("nothing")
        async def nothing(job: Job) -> None:
            tally.ran()
            if self.sleep:
                await asyncio.sleep(self.sleep)

        @queue.entrypoint("stamp")
        async def stamp(job: Job) -> None:
            assert job.payload is not None
            tally.picked_up(json.loads(job.payload))

        return queue

    def adder(self, payload: int) -> Adder:
        """Add through one connection, or through a pool of the setting `pool` connections."""
        return PgqueuerAdder(self.url, b"x" * payload, self.options.get("pool", 0))


class PgqueuerAdder(Adder):
    """Adds through Queries."""

    def __init__(self, url: str, payload: bytes, pool: int) -> None:
        self.url = url
        self.payload = payload
        self.size = pool

    async def __aenter__(self) -> Adder:
        """Connect."""
        self.source: asyncpg.Pool | asyncpg.Connection
        if self.size:
            self.source = await asyncpg.create_pool(self.url, min_size=self.size, max_size=self.size)
            self.queries = Queries.from_asyncpg_pool(self.source)
        else:
            self.source = await asyncpg.connect(self.url)
            self.queries = Queries.from_asyncpg_connection(self.source)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await self.source.close()

    async def one(self, n: int) -> None:
        """Add one."""
        await self.queries.enqueue("nothing", self.payload)

    async def many(self, count: int) -> None:
        """Add a batch in one statement."""
        await self.queries.enqueue(["nothing"] * count, [self.payload] * count, [0] * count)

    async def stamp(self) -> None:
        """Add a job that records when it was added."""
        await self.queries.enqueue("stamp", json.dumps(time.monotonic()).encode())


if __name__ == "__main__":
    main(Pgqueuer)
