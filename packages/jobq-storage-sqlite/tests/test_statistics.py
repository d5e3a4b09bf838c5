"""Statistics: minutes are summed up as soon as a step is over, whatever the clock does."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from jobq_core.testing import ManualClock, add_job, claim_one, register_worker, settle
from jobq_storage_sqlite import SqliteQueueStorage

HOUR = 3600


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock(start=500_000 * HOUR)


@pytest.fixture
async def storage(path: Path, clock: ManualClock) -> AsyncIterator[SqliteQueueStorage]:
    storage = SqliteQueueStorage(path)
    storage._clock, storage._uptime = clock, lambda: 0.0
    async with storage:
        yield storage


async def run_one(storage: SqliteQueueStorage) -> None:
    """Let one job end now."""
    worker = await register_worker(storage)
    await add_job(storage)
    await settle(storage, worker, await claim_one(storage, worker))


async def total(storage: SqliteQueueStorage, step: int) -> int:
    """Return how many jobs ended in the last two days, by the statistics of a step."""
    since = await storage.now() - timedelta(days=2)
    return sum(record.jobs for record in await storage.statistics(since=since, step=step))


def rows(storage: SqliteQueueStorage, step: int) -> int:
    """Return how many rows of a step are stored, beside as many of all queues together."""
    with closing(sqlite3.connect(storage.path)) as connection:
        asked = "SELECT count(*) FILTER (WHERE queue <> ''), count(*) FROM jobq_tally_step WHERE step = ?"
        (count, all_rows) = connection.execute(asked, (step,)).fetchone()
    assert all_rows == 2 * count
    return int(count)


async def test_a_step_is_summed_up_a_minute_after_its_end(storage: SqliteQueueStorage, clock: ManualClock) -> None:
    await run_one(storage)
    for seconds, ten_minutes, hours in ((0, 0, 0), (659, 0, 0), (1, 1, 0), (HOUR - 601, 1, 0), (1, 1, 1)):
        clock.advance(seconds)
        await storage.prune()
        assert (rows(storage, 600), rows(storage, 3600)) == (ten_minutes, hours)
        assert [await total(storage, step) for step in (60, 600, 3600)] == [1, 1, 1]


async def test_a_day_without_pruning_is_summed_up_at_once(storage: SqliteQueueStorage, clock: ManualClock) -> None:
    for _ in range(30):
        await run_one(storage)
        clock.advance(HOUR // 3)
    clock.advance(60)
    await storage.prune()
    assert (rows(storage, 600), rows(storage, 3600)) == (30, 10)
    assert await total(storage, 3600) == 30


async def test_a_clock_that_was_ahead_for_a_while_hides_nothing(
    storage: SqliteQueueStorage, clock: ManualClock
) -> None:
    await run_one(storage)
    clock.advance(20 * HOUR)
    await run_one(storage)
    clock.advance(HOUR)
    await storage.prune()  # sums up what is ahead
    clock.advance(-18 * HOUR)
    await run_one(storage)
    for _ in range(3):
        clock.advance(HOUR)
        assert [await total(storage, step) for step in (60, 600, 3600)] == [2, 2, 2]
        await storage.prune()
