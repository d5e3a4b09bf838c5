"""The clock of the database is set: no live worker is taken for lost, and a dead one is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from jobq_core.records import WorkerStats
from jobq_core.states import JobState
from jobq_core.storage import Claim
from jobq_core.testing import add_job, claim_one, register_worker
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.clock_steps import SMALLEST_SECONDS, ClockSteps

from .test_contract import move_clock

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
        yield storage


async def test_a_step_forward_takes_no_live_worker_for_lost(
    storage: PostgresQueueStorage, postgres_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    leader, other = await register_worker(storage), await register_worker(storage)
    job = await add_job(storage)
    run = await claim_one(storage, other)
    await storage.lead(leader.id, 10)
    await move_clock(postgres_dsn, storage.schema, 3600)
    await storage.lead(leader.id, 10)
    assert "was set forward by 3600" in caplog.text
    assert (await storage.rescue()).workers == []
    assert [status.held for status in await storage.check_leases(other.id, [(job, run.lease)])] == [True]
    assert (await storage.settle_and_claim(other.id, claim=Claim.of("default", limit=1))).alive
    # A beat by the new clock is as good as any, and is not extended once more.
    heartbeat = storage.heartbeat(other)
    try:
        assert heartbeat.beat(WorkerStats())
    finally:
        heartbeat.close()
    before = await storage.workers()
    await storage.lead(leader.id, 10)
    assert await storage.workers() == before
    now = await storage.now()
    assert all(worker.expires_at > now for worker in before)


async def test_a_step_is_noticed_where_workers_seem_lost(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    leader, other = await register_worker(storage), await register_worker(storage)
    await storage.lead(leader.id, 10)
    await move_clock(postgres_dsn, storage.schema, 3600)
    assert (await storage.rescue()).workers == []
    await storage.lead(leader.id, 10)
    assert {worker.info.id for worker in await storage.workers()} == {leader.id, other.id}


async def test_a_dead_worker_is_found_after_a_step_forward(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    leader, dead = await register_worker(storage), await register_worker(storage, lost_after=0.001)
    await storage.lead(leader.id, 10)
    await move_clock(postgres_dsn, storage.schema, 3600)
    await storage.lead(leader.id, 10)
    assert [lost.worker for lost in (await storage.rescue()).workers] == [dead.id]


async def test_a_step_back_takes_no_live_worker_for_lost(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    leader = await register_worker(storage)
    job = await add_job(storage)
    await claim_one(storage, leader)
    await storage.lead(leader.id, 10)
    await move_clock(postgres_dsn, storage.schema, -3600)
    await storage.lead(leader.id, 10)
    assert (await storage.rescue()).workers == []
    (record,) = await storage.get([job])
    assert record is not None
    assert record.state is JobState.PROCESSING


@pytest.mark.parametrize(
    ("passed", "shown", "noticed"),
    [
        (10, 10, None),
        (10, 10 + SMALLEST_SECONDS / 2, None),
        (10, 50, 40),
        (10, -30, None),
        (100_000, 100_040, 40),
    ],
)
def test_a_step_is_what_the_clock_moved_more_than_the_machines(
    passed: float, shown: float, noticed: float | None
) -> None:
    machine = [1000.0]
    steps = ClockSteps(lambda: machine[0])
    assert steps.compare(NOW, machine[0]) is None, "there is nothing to compare with"
    steps.keep(NOW, machine[0])
    machine[0] += passed
    step = steps.compare(NOW + timedelta(seconds=shown), machine[0])
    assert (None if step is None else step.seconds) == noticed
    if step is not None:
        assert step.old_time == NOW + timedelta(seconds=passed)


def test_a_slow_answer_does_not_look_like_a_step() -> None:
    machine = [1000.0]
    steps = ClockSteps(lambda: machine[0])
    steps.keep(NOW, machine[0])
    machine[0] += 30  # the answer was on its way for 20 s, of which the clock was read at the beginning
    assert steps.compare(NOW + timedelta(seconds=10), machine[0] - 20) is None
