"""A row that another transaction holds: no hot statement waits for it, and each job beside it goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from jobq_core.records import Progress
from jobq_core.states import Ending, JobState
from jobq_core.storage import UNKNOWN_KIND, Claim, ProgressReport, Settlement
from jobq_core.testing import ERROR, add_job, claim, claim_one, new_job, register_worker, state_of
from jobq_storage_postgres import PostgresQueueStorage

from .test_contract import move_clock


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    # A statement that waits for a row fails, instead of a test that takes long.
    async with PostgresQueueStorage(f"{postgres_dsn}&options=-c%20lock_timeout%3D50", schema=empty_schema) as storage:
        yield storage


class Held:
    """A transaction that holds rows of jobs until it is rolled back."""

    def __init__(self, connection: psycopg.AsyncConnection, schema: str) -> None:
        self.connection = connection
        self._schema = schema

    async def hold(self, table: str, job: UUID) -> None:
        query = sql.SQL("SELECT FROM {} WHERE id = %s FOR UPDATE").format(sql.Identifier(self._schema, table))
        assert (await self.connection.execute(query, (job,))).rowcount == 1


@pytest_asyncio.fixture
async def held(postgres_dsn: str, empty_schema: str) -> AsyncIterator[Held]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        yield Held(connection, empty_schema)
        await connection.rollback()


@pytest.mark.parametrize("ending", Ending)
async def test_a_settlement_answers_busy_and_can_be_sent_again(
    storage: PostgresQueueStorage, held: Held, ending: Ending
) -> None:
    worker = await register_worker(storage)
    for _ in range(3):
        await add_job(storage)
    first, second, third = await claim(storage, worker)
    last = await add_job(storage)
    await held.hold("running", second.id)
    ends = [Settlement(job.id, job.lease, Ending.COMPLETE, b"1") for job in (first, third)]
    ends.insert(1, Settlement(second.id, second.lease, ending, error=ERROR, reason="why"))
    result = await storage.settle_and_claim(worker.id, ends, Claim.of("default", limit=1))
    assert (result.settled, result.busy) == ([JobState.COMPLETED, None, JobState.COMPLETED], (1,))
    assert [job.id for job in result.claimed] == [last]
    assert await state_of(storage, second.id) is JobState.PROCESSING
    assert (await storage.progress(worker.id, [_report(second.id, second.lease)])) == [True]
    await held.connection.rollback()
    again = await storage.settle_and_claim(worker.id, [ends[1]])
    assert again.busy == ()
    assert again.settled == [await state_of(storage, second.id)]
    assert again.settled != [JobState.PROCESSING]


def _report(job: UUID, lease: int) -> ProgressReport:
    return ProgressReport(id=job, lease=lease, progress=Progress(percent=50))


async def test_rescue_leaves_a_held_job_to_the_next_call(
    storage: PostgresQueueStorage, held: Held, postgres_dsn: str
) -> None:
    workers = [await register_worker(storage, lost_after=5.0) for _ in range(3)]
    jobs = []
    for worker in workers:
        jobs.append(await add_job(storage))
        await claim_one(storage, worker)
    await move_clock(postgres_dsn, storage.schema, 6)
    await held.hold("running", jobs[1])
    found = await storage.rescue()
    assert {job.id for lost in found.workers for job in lost.jobs} == {jobs[0], jobs[2]}
    assert found.next_in is not None
    assert found.next_in <= 0.5
    await held.connection.rollback()
    assert {job.id for lost in (await storage.rescue()).workers for job in lost.jobs} == {jobs[1]}
    assert (await storage.rescue()).workers == []


async def _promote(storage: PostgresQueueStorage) -> int:
    return (await storage.promote()).promoted


async def _expire(storage: PostgresQueueStorage) -> int:
    return (await storage.expire()).count


@pytest.mark.parametrize(
    ("table", "option", "duty"),
    [
        ("waiting", {"run_at": 5.0}, _promote),
        ("waiting", {"run_at": 60.0, "deadline": 5.0}, _expire),
        ("ready", {"deadline": 5.0}, _expire),
    ],
)
async def test_maintenance_passes_by_a_held_job(
    storage: PostgresQueueStorage,
    held: Held,
    postgres_dsn: str,
    table: str,
    option: dict[str, float],
    duty: Callable[[PostgresQueueStorage], Awaitable[int]],
) -> None:
    jobs = [await add_job(storage, **option) for _ in range(3)]
    await move_clock(postgres_dsn, storage.schema, 6)
    await held.hold(table, jobs[0])
    assert await duty(storage) == 2
    await held.connection.rollback()
    assert await duty(storage) == 1


async def test_a_claim_frees_the_jobs_beside_a_held_one(storage: PostgresQueueStorage, held: Held) -> None:
    worker = await register_worker(storage, kinds=())
    for _ in range(3):
        await add_job(storage)
    jobs = await claim(storage, worker)
    suspended = [Settlement(job.id, job.lease, Ending.SUSPEND, reason=UNKNOWN_KIND) for job in jobs]
    await storage.settle_and_claim(worker.id, suspended)
    await held.hold("waiting", jobs[0].id)
    for free in jobs[1:]:
        result = await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=1, kinds=(("noop", "v"),)))
        assert (result.freed, [job.id for job in result.claimed]) == (1, [free.id])


async def test_an_open_transaction_that_registers_a_line_holds_up_no_other_add(
    storage: PostgresQueueStorage, held: Held
) -> None:
    await held.connection.execute(
        sql.SQL("INSERT INTO {} (queue, rank) VALUES ('default', 0)").format(sql.Identifier(storage.schema, "line"))
    )
    worker = await register_worker(storage)
    (added,) = await storage.add([new_job()])
    assert [job.id for job in await claim(storage, worker)] == [added.id]
