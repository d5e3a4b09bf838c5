"""An idle worker and an idle server in the test's process, whose health is checked during storage outages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from load import LOST_AFTER, SOON

from jobq_core import job
from jobq_server import JobQueueServer
from jobq_worker import JobQueueWorker, WorkerHealth

BEAT = LOST_AFTER / 4
ANSWER = max(1.0, LOST_AFTER / 3)
"""Seconds that a heartbeat waits for its answer, unless the storage's own time limit is shorter."""
SLACK = 10.0
"""Additional seconds allowed on a busy machine; an outage is usually noticed within two."""


@job(queue="watched")
def never() -> None:
    """Do nothing: no test adds this job."""


class Watched:
    """The health of several parts, and how long the slowest took to notice an outage and its end."""

    def __init__(self, parts: dict[str, Callable[[], WorkerHealth]]) -> None:
        self._parts = parts
        self.noticed = 0.0
        """Seconds until the slowest part reported the outage."""
        self.recovered = 0.0
        """Seconds until the slowest part was healthy again."""

    async def notice(self, since: float) -> None:
        """Wait until all parts report the outage and its error. since: start of the outage, by time.monotonic()."""
        for name, health in self._parts.items():
            await _until(name, health, lambda health: health.storage_failing, since + BEAT + ANSWER + SLACK)
            self.noticed = max(self.noticed, time.monotonic() - since)
            found = health()
            assert not found.healthy, name
            assert found.state == "running", name
            assert found.storage_error, name
            assert "Unavailable" in found.storage_error or "ReadOnly" in found.storage_error, found
            assert found.storage_failing_for is not None, name
            assert 0 <= found.storage_failing_for <= time.monotonic() - since, (name, found)

    def lasting(self, since: float) -> None:
        """Check that all parts report an outage that began at `since`."""
        for name, health in self._parts.items():
            found = health()
            assert found.storage_failing_for is not None, name
            assert time.monotonic() - since - found.storage_failing_for <= BEAT + ANSWER + SLACK, (name, found)
            assert found.storage_errors >= 1, name

    async def recover(self, since: float) -> None:
        """Wait until all parts are healthy again. since: end of the outage, by time.monotonic()."""
        for name, health in self._parts.items():
            await _until(name, health, lambda health: health.healthy, since + SOON)
            self.recovered = max(self.recovered, time.monotonic() - since)
            found = health()
            assert (found.storage_error, found.storage_failing_for) == (None, None), (name, found)


async def _until(
    name: str, health: Callable[[], WorkerHealth], true: Callable[[WorkerHealth], bool], deadline: float
) -> None:
    while not true(health()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not in time: {name} is {health()}")
        await asyncio.sleep(0.01)


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[Watched]:
    """Run a worker and a server on a storage; they take part in maintenance only."""
    timing = {"heartbeat_interval": BEAT, "lost_after": LOST_AFTER}
    async with (
        JobQueueWorker(url, jobs=[never], queues=["watched"], name="watched-worker", **timing) as worker,
        JobQueueServer(url, jobs=[never], queues=["watched"], name="watched-server", **timing) as server,
    ):
        yield Watched({"worker": worker.health, "server": server.health})
