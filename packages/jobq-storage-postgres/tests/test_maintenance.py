"""What is due is promoted, however late its transaction or the maintainer comes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from jobq_core.errors import StorageUnavailableError
from jobq_core.states import JobState
from jobq_core.storage import QueueOptions, Retention
from jobq_core.testing import add_job, claim_one, new_job, register_worker
from jobq_storage_postgres import PostgresQueueStorage, leases


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(postgres_dsn, schema=empty_schema)
    async with storage:
        yield storage


async def move_clock(storage: PostgresQueueStorage, dsn: str, seconds: int) -> None:
    body = sql.Literal(f"SELECT pg_catalog.clock_timestamp() + interval '{seconds} seconds'")
    query = sql.SQL("CREATE OR REPLACE FUNCTION {}() RETURNS timestamptz LANGUAGE sql AS {}")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(query.format(sql.Identifier(storage.schema, "clock"), body))


async def test_a_job_whose_transaction_was_open_past_its_time_is_promoted(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as slow:
        await storage.add([new_job(run_at=10.0)], connection=slow)
        for seconds in (20, 40):
            await move_clock(storage, postgres_dsn, seconds)
            assert (await storage.promote()).promoted == 0
    promotion = await storage.promote()
    assert (promotion.promoted, promotion.next_in) == (1, None)


async def test_a_job_whose_transaction_was_open_for_very_long_is_found_by_the_full_promotion(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as slow:
        await storage.add([new_job(run_at=10.0)], connection=slow)
        await storage.promote()
        await move_clock(storage, postgres_dsn, 3600)
        assert (await storage.promote()).promoted == 0
    assert (await storage.promote()).promoted == 0, "it is out of sight"
    storage._engine.promotions.full_due = 0.0
    assert (await storage.promote()).promoted == 1


async def test_a_backlog_is_promoted_to_its_end_after_hours_without_maintenance(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    await storage.promote()
    await storage.add([new_job(run_at=float(n)) for n in range(1, 26)])
    await move_clock(storage, postgres_dsn, 36_000)
    assert [(await storage.promote(10)).promoted for _ in range(4)] == [10, 10, 5, 0]


async def test_a_run_that_is_being_rescued_does_not_start(
    storage: PostgresQueueStorage, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is locked at first, and gone when the storage looks again."""
    worker = await register_worker(storage)
    job = await add_job(storage, max_attempts=1)
    claimed = await claim_one(storage, worker)
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as rescuer:
        gone = sql.SQL("DELETE FROM {} WHERE id = %s").format(sql.Identifier(storage.schema, "running"))
        await rescuer.execute(gone, (job,))
        waited: list[float] = []

        async def wait(seconds: float) -> None:
            waited.append(seconds)
            await rescuer.commit()

        monkeypatch.setattr(leases, "_sleep", wait)
        assert await storage.mark_started(worker.id, [(job, claimed.lease)]) == [False]
        assert len(waited) == 1


async def test_a_run_whose_row_is_held_starts_once_it_is_free(
    storage: PostgresQueueStorage, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await register_worker(storage)
    job = await add_job(storage)
    claimed = await claim_one(storage, worker)
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(leases, "_sleep", wait)
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as other:
        held = sql.SQL("SELECT FROM {} FOR UPDATE").format(sql.Identifier(storage.schema, "running"))
        await other.execute(held)
        with pytest.raises(StorageUnavailableError, match="another transaction holds"):
            await storage.mark_started(worker.id, [(job, claimed.lease)])
    assert 0.5 < sum(waited) <= 1
    assert await storage.mark_started(worker.id, [(job, claimed.lease)]) == [True]


async def test_counts_survive_being_summed_up(storage: PostgresQueueStorage) -> None:
    added = await storage.add([new_job() for _ in range(5)])
    await storage.abort([job.id for job in added])
    before = await storage.counts("default")
    for _ in range(2):
        assert await storage.prune() == 0
        assert await storage.counts("default") == before
    await storage.retry([added[0].id])
    await storage.delete([added[1].id])
    await storage.prune()
    assert [count for count in (await storage.counts("default"))["default"].values() if count] == [1, 3]
    await storage.clear("default")
    await storage.prune()
    assert await storage.counts() == {}


async def test_old_jobs_that_are_kept_do_not_hide_those_to_be_pruned(
    storage: PostgresQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten jobs that waited for long end late, and are kept longer than a younger one that ended before them."""
    monkeypatch.setattr("jobq_storage_postgres.maintenance.LOOKED_AT", 4)
    await storage.set_queue("default", QueueOptions(retention=Retention(aborted=30)))
    added = await storage.add([new_job() for _ in range(11)])
    await storage.abort([added[-1].id])
    async with await psycopg.AsyncConnection.connect(**storage._settings.address.conninfo) as connection:
        await connection.execute(
            sql.SQL("UPDATE {} SET finished_at = finished_at - interval '2 days'").format(
                sql.Identifier(storage.schema, "outcome")
            )
        )
    await storage.abort([each.id for each in added[:-1]])
    assert [await storage.prune() for _ in range(4)] == [0, 0, 1, 0]
    assert (await storage.counts("default"))["default"][JobState.ABORTED] == 10
