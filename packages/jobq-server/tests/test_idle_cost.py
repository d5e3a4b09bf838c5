"""An idle pool of ten costs the database no more than one worker: its calls are counted over a minute.

The minute is the event loop's own: whenever the loop would wait, its clock moves forward instead.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from jobq_core import job
from jobq_server import JobQueueServer
from jobq_worker import JobQueueWorker

SECONDS = 60.0


class SkippingSelector(selectors.DefaultSelector):
    """Moves the clock forward instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.skipping = False
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.skipping or timeout is None or timeout <= 0:
            return super().select(timeout)
        if ready := super().select(0):
            return ready
        self.skipped += timeout
        return []


class SkippingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = SkippingSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return time.monotonic() + self.selector.skipped


@job()
async def nothing() -> None: ...


Make = Callable[[Any], JobQueueServer | JobQueueWorker]


async def idle_minute(loop: SkippingLoop, storage: Any, make: Make) -> Counter[str]:
    async with storage, make(storage):
        # The counts begin with the start, so that ten registrations or ten subscriptions would show.
        loop.selector.skipping = True
        await asyncio.sleep(SECONDS)
        loop.selector.skipping = False
        return Counter(storage.calls)


def calls_of(make: Make, storage: Any) -> Counter[str]:
    """Return the storage's calls in an idle minute, with the same random numbers each time."""
    random.seed(7)
    loops: list[SkippingLoop] = []

    def make_loop() -> SkippingLoop:
        loops.append(SkippingLoop())
        return loops[0]

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.get_loop()
        return runner.run(idle_minute(loops[0], storage, make))


@pytest.mark.parametrize("pool", [10, 0])
def test_an_idle_pool_of_ten_asks_the_storage_as_often_as_one_worker(counting_storage_type: Any, pool: int) -> None:
    one = calls_of(lambda s: JobQueueWorker(s, jobs=[nothing], concurrency=1), counting_storage_type())
    ten = calls_of(lambda s: JobQueueServer(s, jobs=[nothing], worker_count=pool), counting_storage_type())
    assert one["register"] == one["heartbeat"] == one["subscribe"] == 1
    assert SECONDS / 1.3 <= one["settle_and_claim"] <= SECONDS + 2
    if pool == 0:
        assert ten["settle_and_claim"] <= 1  # a paused pool does not claim
        one["settle_and_claim"] = ten["settle_and_claim"]
    # A call that falls on the end of the minute may be in or out.
    assert {name: count for name, count in (ten - one).items() if count > 1} == {}
    assert {name: count for name, count in (one - ten).items() if count > 1} == {}
