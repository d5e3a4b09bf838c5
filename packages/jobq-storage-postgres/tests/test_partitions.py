"""Partitions of a week: made ahead, dropped when over, and never in anybody's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, JobFilter, LogPart, Settlement
from jobq_core.testing import ERROR, new_job, register_worker
from jobq_storage_postgres import PostgresQueueStorage


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await storage.migrate()
    async with storage:
        yield storage


async def partitions(storage: PostgresQueueStorage, dsn: str, table: str = "job") -> list[str]:
    query = (
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = %s::regclass ORDER BY c.relname"
    )
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await (await connection.execute(query, (f"{storage.schema}.{table}",))).fetchall()
    return [row[0] for row in rows]


async def in_default(storage: PostgresQueueStorage, dsn: str, table: str) -> int:
    return await count(storage, dsn, f"{table}_default")


async def count(storage: PostgresQueueStorage, dsn: str, table: str) -> int:
    name = sql.Identifier(storage.schema, table)
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        row = await (await connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name))).fetchone()
    assert row is not None
    return int(row[0])


async def move_clock(storage: PostgresQueueStorage, dsn: str, days: float) -> None:
    body = f"SELECT pg_catalog.clock_timestamp() + interval '{days} days'"
    name = sql.Identifier(storage.schema, "clock")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(
            sql.SQL("CREATE OR REPLACE FUNCTION {}() RETURNS timestamptz LANGUAGE sql AS {}").format(
                name, sql.Literal(body)
            )
        )


def id_at(moment: datetime) -> UUID:
    """Make an id as a client makes it at that moment."""
    return UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | 1)


async def test_jobs_of_the_weeks_to_come_have_partitions_from_the_start(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    now = await storage.now()
    monday = (now - timedelta(days=now.weekday())).date()
    names = [f"job_{monday + timedelta(weeks=week):%Y%m%d}" for week in (0, 1, 2)]
    assert await partitions(storage, postgres_dsn) == [*names, "job_default"]
    await storage.add(
        [new_job(), new_job(id=id_at(now + timedelta(weeks=1))), new_job(id=id_at(now + timedelta(weeks=27)))]
    )
    assert await in_default(storage, postgres_dsn, "job") == 0
    # Whatever else an id says, there is a place for it.
    await storage.add([new_job(id=id_at(datetime(2001, 1, 1, tzinfo=UTC))), new_job(id=UUID(int=2**128 - 2))])
    assert await in_default(storage, postgres_dsn, "job") == 2
    assert len((await storage.find(JobFilter())).jobs) == 5


async def test_a_partition_that_is_over_goes_and_what_lives_in_it_stays(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    worker = await register_worker(storage, lost_after=10**9)
    completed, failed, pending = await storage.add([new_job(), new_job(), new_job()])
    (one, two) = (await storage.settle_and_claim(worker.id, claim=Claim.of("default", limit=2))).claimed
    await storage.settle_and_claim(
        worker.id,
        [
            Settlement(one.id, one.lease, Ending.COMPLETE, b"1"),
            Settlement(two.id, two.lease, Ending.FAIL, error=ERROR),
        ],
    )
    await storage.write_logs(
        [LogPart(job=job, lease=7, attempt=1, part=0, lines=()) for job in (completed.id, failed.id)]
    )
    before = await storage.get([failed.id, pending.id])
    old = (await partitions(storage, postgres_dsn))[:2]
    await move_clock(storage, postgres_dsn, 13)
    assert await storage.prune() == 1
    await storage._maintain_partitions()
    names = await partitions(storage, postgres_dsn)
    assert old[0] not in names
    for table in ("outcome", "job_log"):
        assert [name.replace(table, "job") for name in await partitions(storage, postgres_dsn, table)] == names
    assert len(names) >= 3, "the weeks to come have theirs"
    assert await storage.get([completed.id]) == [None]
    assert await storage.get([failed.id, pending.id]) == before
    assert await in_default(storage, postgres_dsn, "job") == 2
    assert await in_default(storage, postgres_dsn, "outcome") == 1
    assert await in_default(storage, postgres_dsn, "job_log") == 1
    assert [part.lease for part in await storage.read_logs(failed.id)] == [7]
    # They live on there.
    (retried,) = await storage.retry([failed.id])
    assert retried.after is JobState.PENDING
    claimed = (await storage.settle_and_claim(worker.id, claim=Claim.of("default", limit=5))).claimed
    assert [job.id for job in claimed] == [pending.id, failed.id]


async def test_lines_that_are_written_while_their_job_is_deleted_are_never_read_and_go_with_their_partition(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    job, stays = (added.id for added in await storage.add([new_job(), new_job()]))
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as deleting:
        await psycopg.AsyncRawCursor(deleting).execute(storage._engine.statements["delete"].sql, [[job]])
        parts = [LogPart(job=each, lease=7, attempt=1, part=0, lines=()) for each in (job, stays)]
        await storage.write_logs(parts)
    assert await count(storage, postgres_dsn, "job_log") == 2
    assert await storage.read_logs(job) == []
    assert [part.lease for part in await storage.read_logs(stays)] == [7]
    await move_clock(storage, postgres_dsn, 13)
    await storage._maintain_partitions()
    assert await in_default(storage, postgres_dsn, "job_log") == 1
    assert await count(storage, postgres_dsn, "job_log") == 1
    assert [part.lease for part in await storage.read_logs(stays)] == [7]


async def test_a_partition_that_still_holds_many_stays(
    storage: PostgresQueueStorage, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq_storage_postgres.maintenance.MOVED", 2)
    await storage.add([new_job() for _ in range(3)])
    old = (await partitions(storage, postgres_dsn))[0]
    await move_clock(storage, postgres_dsn, 30)
    await storage._maintain_partitions()
    assert old in await partitions(storage, postgres_dsn)
    assert await in_default(storage, postgres_dsn, "job") == 0


async def test_a_long_reader_postpones_the_dropping_and_blocks_no_other(
    storage: PostgresQueueStorage, postgres_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jobq.postgres")
    old = (await partitions(storage, postgres_dsn))[0]
    await move_clock(storage, postgres_dsn, 30)
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as reader:
        await reader.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(storage.schema, "job")))
        assert await storage.prune() == 0
        assert "postponed drop_partitions" in caplog.text
        assert old in await partitions(storage, postgres_dsn)
        assert [added.created for added in await storage.add([new_job()])] == [True]
    await storage._maintain_partitions()
    assert old not in await partitions(storage, postgres_dsn)


async def test_two_that_tend_the_partitions_at_once_do_each_thing_once(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    schema = sql.Identifier(storage.schema)
    async with (
        await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as one,
        await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as two,
    ):

        async def both(function: str, *values: object) -> list[int]:
            asked = sql.SQL("SELECT {}.{}({})").format(
                schema, sql.SQL(function), sql.SQL(", ").join(map(sql.Literal, values))
            )
            done = await asyncio.gather(one.execute(asked), two.execute(asked))
            rows = [await cursor.fetchone() for cursor in done]
            return sorted(row[0] for row in rows if row is not None)

        # On a machine that stalls, neither gives up. A deadlock would be detected after 1 s.
        for signature in ("make_partitions()", "drop_partitions(interval, integer)"):
            patient = sql.SQL("ALTER FUNCTION {}.{} SET lock_timeout = '30s'")
            await one.execute(patient.format(schema, sql.SQL(signature)))
        for weeks in range(2, 22, 2):
            await storage.add([new_job()])
            await move_clock(storage, postgres_dsn, 7 * weeks)
            assert await both("make_partitions") == [0, 6]
            assert await both("drop_partitions", timedelta(0), 5000) == [0, 2]


async def test_a_week_whose_jobs_are_in_the_default_partition_already_gets_no_partition(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    later = await storage.now() + timedelta(weeks=40)
    (added,) = await storage.add([new_job(id=id_at(later))])
    await move_clock(storage, postgres_dsn, 280)
    await storage._maintain_partitions()
    monday = (later - timedelta(days=later.weekday())).date()
    names = await partitions(storage, postgres_dsn)
    assert f"job_{monday:%Y%m%d}" not in names
    assert f"job_{monday + timedelta(weeks=1):%Y%m%d}" in names
    assert [record is not None for record in await storage.get([added.id])] == [True]


async def test_jobs_of_weeks_without_a_worker_have_a_partition_and_those_after_them_too(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    now = await storage.now()
    await storage.add([new_job(id=id_at(now + timedelta(weeks=10)))])
    await move_clock(storage, postgres_dsn, 70)
    before = await partitions(storage, postgres_dsn)
    await storage._maintain_partitions()
    after = await partitions(storage, postgres_dsn)
    assert before[-2] in after, "the partition that holds the job stays"
    assert len(after) == 3, "the old ones are dropped, and the half year after it has one"
    await storage.add([new_job(id=id_at(now + timedelta(weeks=30)))])
    assert await in_default(storage, postgres_dsn, "job") == 0
    # Once its time is over, there is a partition per week again.
    await move_clock(storage, postgres_dsn, 7 * 60)
    await storage._maintain_partitions()
    monday = (now + timedelta(weeks=60) - timedelta(days=now.weekday())).date()
    names = await partitions(storage, postgres_dsn)
    assert {f"job_{monday + timedelta(weeks=week):%Y%m%d}" for week in (0, 1, 2)} <= set(names)


async def test_partitions_stay_few_however_long_jobs_are_kept(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    years = 8
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        schema = sql.Identifier(storage.schema)
        await admin.execute(
            sql.SQL(
                "CREATE OR REPLACE FUNCTION {}.clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
                "$$ SELECT current_setting('test.now')::timestamptz $$"
            ).format(schema)
        )
        await admin.execute(
            sql.SQL(
                """
                DO $do$ BEGIN
                    FOR week IN 0..{weeks} LOOP
                        PERFORM set_config('test.now', (now() + week * interval '7 days')::text, false);
                        INSERT INTO {schema}.job (id, created_at, priority, max_attempts, queue, kind, arguments)
                        VALUES ({schema}.first_id_of({schema}.clock()::date), {schema}.clock(), 0, 1, 'q', 'k', '{{}}');
                        PERFORM {schema}.make_partitions();
                        PERFORM {schema}.drop_partitions(interval '1 day', 0);
                    END LOOP;
                END $do$
                """
            ).format(weeks=sql.Literal(52 * years), schema=schema)
        )
        await admin.execute("SET plan_cache_mode = force_generic_plan")
        await admin.execute(sql.SQL("PREPARE look (uuid) AS SELECT FROM {}.job_state WHERE id = $1").format(schema))
        async with admin.transaction():
            await admin.execute("EXECUTE look (gen_random_uuid())")
            row = await (await admin.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()")).fetchone()
    assert row is not None
    assert len(await partitions(storage, postgres_dsn)) <= 20
    assert await in_default(storage, postgres_dsn, "job") == 0
    assert row[0] < 120, "locks of one look-up by id"


async def test_a_default_partition_that_is_too_large_is_said(
    storage: PostgresQueueStorage, postgres_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        size = sql.SQL("CREATE OR REPLACE FUNCTION {}.default_size() RETURNS bigint LANGUAGE sql AS {}")
        await admin.execute(size.format(sql.Identifier(storage.schema), sql.Literal("SELECT 1000000000")))
        await move_clock(storage, postgres_dsn, 30)
        for _ in range(2):
            await storage._maintain_partitions()
        assert [record.message.startswith("no partitions are made") for record in caplog.records] == [True]
        assert ["no partitions are made" in text for text in storage.warnings] == [False, False, True]
        again = PostgresQueueStorage(postgres_dsn, schema=storage.schema)
        async with again:
            assert again.warnings == storage.warnings
        await admin.execute(size.format(sql.Identifier(storage.schema), sql.Literal("SELECT 0")))
        await storage._maintain_partitions()
        assert not any("partitions" in text for text in storage.warnings)
