"""Another transaction holds the row of a job, as that of a paused client does: all others go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, Settlement
from jobq_core.testing import ERROR, claim_one, job_in, new_job, register_worker
from jobq_storage_postgres import PostgresQueueStorage

TABLES = {
    JobState.SCHEDULED: "waiting",
    JobState.BLOCKED: "waiting",
    JobState.DISABLED: "waiting",
    JobState.PENDING: "ready",
    JobState.PROCESSING: "running",
    JobState.COMPLETED: "outcome",
    JobState.FAILED: "outcome",
    JobState.ABORTED: "outcome",
}


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
        yield storage


@pytest.mark.parametrize("state", JobState)
async def test_one_held_row_stops_no_other_job(
    storage: PostgresQueueStorage, postgres_dsn: str, state: JobState
) -> None:
    mine, lost = await register_worker(storage), await register_worker(storage)
    held = await job_in(storage, mine, state, queue="held")
    orphan = await job_in(storage, lost, JobState.PROCESSING, queue="lost")
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as clock:
        workers = sql.Identifier(storage.schema, "worker")
        await clock.execute(sql.SQL("UPDATE {} SET expires_at = beat_at WHERE id = %s").format(workers), (lost.id,))
    runs = []
    for _ in range(3):
        await storage.add([new_job()])
        runs.append(await claim_one(storage, mine))
    bystanders = [added.id for added in await storage.add([new_job(queue="other") for _ in range(5)])]
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as holder:
        table = sql.Identifier(storage.schema, TABLES[state])
        await holder.execute(sql.SQL("SELECT FROM {} WHERE id = %s FOR UPDATE").format(table), (held,))
        blocked = [
            asyncio.create_task(operation([bystander, held]))
            for operation, bystander in zip(
                (storage.abort, storage.disable, storage.enable, storage.retry, storage.delete), bystanders, strict=True
            )
        ]
        (added,) = await storage.add([new_job(queue="held")])
        assert added.created
        settlements = [
            Settlement(runs[0].id, runs[0].lease, Ending.COMPLETE, b"1"),
            Settlement(runs[1].id, runs[1].lease, Ending.FAIL, error=ERROR),
        ]
        answer = await storage.settle_and_claim(mine.id, settlements, Claim.of("held", limit=5))
        assert answer.settled == [JobState.COMPLETED, JobState.FAILED]
        assert [job.id for job in answer.claimed] == [added.id]
        assert [(each.worker, [job.id for job in each.jobs]) for each in (await storage.rescue()).workers] == [
            (lost.id, [orphan])
        ]
        await storage.promote()
        await storage.expire()
        await storage.prune()
        assert [change.after for change in await storage.abort([runs[2].id])] == [JobState.PROCESSING]
        await storage.register(mine)
        await holder.rollback()
        changes = [change for changes in await asyncio.gather(*blocked) for change in changes]
    assert {change.id for change in changes} == {held, *bystanders}
