"""Lines: claims read those that were ever used, and no others; and what is in them may have no job."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest_asyncio
from psycopg import sql

from jobq_core.states import Ending
from jobq_core.storage import Claim, Line, QueueOptions, Settlement
from jobq_core.testing import add_job, claim, claim_one, new_job, register_worker
from jobq_storage_postgres import PostgresQueueStorage


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
        yield storage


async def claim_ids(storage: PostgresQueueStorage, worker: UUID, limit: int = 100) -> list[UUID]:
    return [job.id for job in (await storage.settle_and_claim(worker, (), Claim.of("default", limit=limit))).claimed]


async def test_a_line_that_another_process_uses_first_is_claimed_in_its_place(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    worker = (await register_worker(storage)).id
    last = await add_job(storage)
    async with PostgresQueueStorage(postgres_dsn, schema=storage.schema) as other:
        for priority in random.Random(1).sample(range(-100, 101), 12):
            job = await add_job(other, priority=priority)
            assert await claim_ids(storage, worker, 1) == ([job] if priority > 0 else [last])
            if priority <= 0:
                await storage.delete([job])
                last = await add_job(storage)


async def test_lines_that_are_new_are_found_under_an_open_transaction(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    """It holds back the horizon, so that known lines look as if they were new."""
    worker = (await register_worker(storage)).id
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as slow:
        await slow.execute("SELECT pg_current_xact_id()")
        for priority in (3, 7, -5):
            job = await add_job(storage, priority=priority)
            assert await claim_ids(storage, worker) == [job]
            assert await claim_ids(storage, worker) == []


async def test_each_pause_and_its_end_are_found_at_once_under_an_open_transaction(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    """It holds back the horizon, so that all pauses look as if they were new."""
    worker = (await register_worker(storage)).id
    claiming = Claim.of("unused", "default", limit=1)
    async with (
        PostgresQueueStorage(postgres_dsn, schema=storage.schema) as other,
        await psycopg.AsyncConnection.connect(postgres_dsn) as slow,
    ):
        await slow.execute("SELECT pg_current_xact_id()")
        for paused in (True, False, True, True, False, False, True, False):
            await other.set_queue("default", QueueOptions(paused=paused))
            job = await add_job(other)
            result = await storage.settle_and_claim(worker, (), claiming)
            assert result.paused == (("default",) if paused else ())
            assert [each.id for each in result.claimed] == ([] if paused else [job])
            await other.delete([job])
            assert (await storage.settle_and_claim(worker, (), claiming)).paused == result.paused


async def test_rows_without_a_job_are_deleted_by_the_claim_that_meets_them(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    worker = await register_worker(storage)
    await storage.add([new_job() for _ in range(250)])
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as admin:
        await admin.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(storage.schema, "job")))
    live = await add_job(storage)
    picked = []
    while not picked or picked[-1][0] == 100:
        result = await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=100))
        picked.append((result.picked, [job.id for job in result.claimed]))
    assert picked == [(100, []), (100, []), (51, [live])]
    assert len(await storage.recover_claims(worker.id, ())) == 1


async def test_returned_jobs_of_a_queue_that_never_had_any_are_claimed_first(storage: PostgresQueueStorage) -> None:
    worker = await register_worker(storage)
    job = await add_job(storage, priority=-3)
    run = await claim_one(storage, worker)
    await add_job(storage, priority=100)
    released = [Settlement(job, run.lease, Ending.RELEASE)]
    result = await storage.settle_and_claim(worker.id, released, Claim.of("default", limit=1))
    assert [each.id for each in result.claimed] == [job]


async def test_the_limits_of_two_lines_of_one_queue_add_up(storage: PostgresQueueStorage) -> None:
    worker = await register_worker(storage)
    await storage.add([new_job() for _ in range(5)])
    lines = (Line("default", 2), Line("default", 1))
    assert len((await storage.settle_and_claim(worker.id, (), Claim(lines, 10))).claimed) == 3
    assert len(await claim(storage, worker)) == 2
