# /// script
# requires-python = ">=3.11"
# dependencies = ["awa-pg==0.6.9"]
# ///
"""awa, whose workers are Rust that calls Python handlers; many jobs are added with its COPY."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from awa import AsyncClient, Job
from protocol import Adder, Contestant, Tally, main

QUEUE = "bench"
BATCH = 1000


@dataclass
class Nothing:
    """A no-op job."""

    text: str


@dataclass
class Stamp:
    """A job that notes how long it took to get to its handler."""

    sent: float


def client_of(url: str, connections: int = 10) -> AsyncClient:
    """Return a client; awa refuses a URL without a host, though one among its parameters counts."""
    return AsyncClient(url.replace("@/", "@localhost/").replace(":///", "://localhost/"), connections)


class Awa(Contestant):
    """Workers claim in batches; jobs, claims and outcomes are rows that are only appended."""

    name = "awa"
    packages = ("awa-pg",)
    imports: ClassVar[dict[str, str]] = {"postgresql": "from awa import AsyncClient"}
    connects = "AsyncClient(url.replace('@/', '@localhost/')).queue_stats()"
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {
        "work": [
            {"max_workers": 100},
            {"max_workers": 500},
            {"max_workers": 500, "claim_batch_size": 500},
        ],
        "group": [{"pool": 4}, {"pool": 20}],
    }
    caveats: ClassVar[Sequence[str]] = (
        "Its worker is compiled Rust; only handlers are Python.",
        "Keeps no results.",
    )

    def setup(self) -> None:
        """Migrate, and choose the queue storage, which is what COPY goes into directly."""
        asyncio.run(self._setup())

    async def _setup(self) -> None:
        async with client_of(self.url) as client:
            await client.migrate()
            await client.install_queue_storage()

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add in bulk; to awa, 1 is the highest priority and 2 is usual."""
        due = datetime.now(UTC) + timedelta(seconds=delay) if delay else None
        asyncio.run(self._fill(jobs, Nothing("x" * payload), due, 1 if higher else 2))

    async def _fill(self, jobs: int, job: Nothing, due: datetime | None, priority: int) -> None:
        async with client_of(self.url) as client:
            for start in range(0, jobs, BATCH):
                batch = [job] * min(BATCH, jobs - start)
                await client.enqueue_many_copy(batch, queue=QUEUE, priority=priority, run_at=due)

    def work(self) -> None:
        """Serve until SIGTERM, which is left to its users to handle."""
        assert self.tally is not None
        asyncio.run(self._work(self.tally))

    async def _work(self, tally: Tally) -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        async with client_of(self.url, 20) as client:

            @client.task(Nothing, queue=QUEUE)
            async def nothing(job: Job[Nothing]) -> None:
                tally.ran()
                if self.sleep:
                    await asyncio.sleep(self.sleep)

            @client.task(Stamp, queue=QUEUE)
            async def stamp(job: Job[Stamp]) -> None:
                tally.picked_up(job.args.sent)

            await client.start([{"name": QUEUE, "max_workers": 100, **self.options}])
            await stopping.wait()
            await client.shutdown(timeout_ms=10_000)

    def adder(self, payload: int) -> Adder:
        """Add through a pool of the setting `pool` connections."""
        return AwaAdder(client_of(self.url, self.options.get("pool", 4)), Nothing("x" * payload))


class AwaAdder(Adder):
    """Adds through an AsyncClient."""

    def __init__(self, client: AsyncClient, job: Nothing) -> None:
        self.client = client
        self.job = job

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await self.client.close()

    async def one(self, n: int) -> None:
        """Add one."""
        await self.client.insert(self.job, queue=QUEUE)

    async def many(self, count: int) -> None:
        """Add a batch with COPY."""
        await self.client.enqueue_many_copy([self.job] * count, queue=QUEUE)

    async def stamp(self) -> None:
        """Add a job that records when it was added."""
        await self.client.insert(Stamp(time.monotonic()), queue=QUEUE)


if __name__ == "__main__":
    main(Awa)
