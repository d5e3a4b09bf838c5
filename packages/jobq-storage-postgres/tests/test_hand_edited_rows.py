"""Rows that were edited by hand, and tables that jobq did not create: refused, or harmless to the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from jobq_core.errors import SchemaError
from jobq_core.job import MAX_ATTEMPTS
from jobq_core.states import Ending, JobState
from jobq_core.storage import JobFilter, Settlement
from jobq_core.testing import ERROR, add_job, claim, claim_one, new_job, read, register_worker, settle
from jobq_storage_postgres import PostgresQueueStorage


class Edited:
    """A storage whose tables are edited by hand."""

    def __init__(self, storage: PostgresQueueStorage, dsn: str) -> None:
        self.storage = storage
        self.dsn = dsn

    async def write(self, text: LiteralString, *values: Any) -> None:
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            schema = sql.Identifier(self.storage.schema)
            assert (await connection.execute(sql.SQL(text).format(schema), values)).rowcount == 1


@pytest.fixture
async def edited(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[Edited]:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await storage.migrate()
    async with storage:
        yield Edited(storage, postgres_dsn)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("job SET kind", "no\x7fop"),
        ("job SET tags", "{NULL,a}"),
        ("job SET tags", "{{a,b},{c,d}}"),
        ("job SET arguments", "[1e999]"),
        ("job SET arguments", '"\\ud800"'),
        ("job SET backoff", '"garbage"'),
        ("job SET deadline", "infinity"),
        ("job SET deadline", "-infinity"),
        ("job SET deadline", "4000-01-01 BC"),
        ("job SET created_at", "294000-01-01"),
        ("job SET timeout", "NaN"),
        ("job SET timeout", "Infinity"),
        ("job SET timeout", "-1"),
        ("ready SET attempt", str(MAX_ATTEMPTS)),
        ("ready SET attempt", "-5"),
        ("ready SET details", "1e999"),
        ("ready SET percent", "NaN"),
        ("ready SET run_at", "-infinity"),
        ("ready SET position", "-9223372036854775807"),
    ],
    ids=str,
)
async def test_an_edited_row_is_read_and_claimed_with_the_others(edited: Edited, change: str, value: str) -> None:
    storage = edited.storage
    worker = await register_worker(storage)
    changed, sound = await add_job(storage), await add_job(storage, tags=("fine",))
    await edited.write(f"UPDATE {{}}.{change} = %s WHERE id = %s", value, changed)  # type: ignore[arg-type]
    assert {job.id for job in (await storage.find(JobFilter())).jobs} == {changed, sound}
    assert None not in await storage.get_status([changed, sound])
    claimed = await claim(storage, worker)
    assert {job.id for job in claimed} == {changed, sound}
    assert len(await storage.recover_claims(worker.id, [])) == 2
    assert (await read(storage, changed)).state is JobState.PROCESSING
    for job in claimed:
        await settle(storage, worker, job, Ending.FAIL, error=ERROR)
    assert (await storage.counts("default"))["default"][JobState.FAILED] == 2


async def test_a_claim_counts_attempts_up_to_the_highest(edited: Edited) -> None:
    worker = await register_worker(edited.storage)
    job = await add_job(edited.storage)
    await edited.write("UPDATE {}.ready SET attempt = %s WHERE id = %s", MAX_ATTEMPTS, job)
    assert (await claim_one(edited.storage, worker)).attempt == MAX_ATTEMPTS


async def test_a_running_job_of_the_lowest_attempt_is_settled_and_rescued_with_the_others(edited: Edited) -> None:
    storage = edited.storage
    worker = await register_worker(storage)
    changed, sound = await add_job(storage), await add_job(storage)
    lowest = "UPDATE {}.running SET attempt = -32768 WHERE id = %s"
    claimed = {job.id: job for job in await claim(storage, worker)}
    await edited.write(lowest, changed)
    ends = [Settlement(claimed[job].id, claimed[job].lease, Ending.RELEASE) for job in (changed, sound)]
    assert (await storage.settle_and_claim(worker.id, ends)).settled == [JobState.PENDING] * 2
    await claim(storage, worker)
    await edited.write(lowest, changed)
    await storage.deregister(worker.id)
    (lost,) = (await storage.rescue()).workers
    assert {(job.id, job.state) for job in lost.jobs} == {(changed, JobState.PENDING), (sound, JobState.PENDING)}
    assert (await read(storage, changed)).attempt == 0


@pytest.mark.parametrize("moment", ["infinity", "-infinity"])
async def test_a_job_due_at_infinity_holds_up_no_promotion(edited: Edited, moment: str) -> None:
    storage = edited.storage
    changed, sound = await add_job(storage, run_at=3600.0), await add_job(storage, run_at=3600.0)
    await edited.write("UPDATE {}.waiting SET run_at = %s WHERE id = %s", moment, changed)
    await edited.write("UPDATE {}.waiting SET run_at = now() WHERE id = %s", sound)
    await storage.promote(1)
    await storage.promote()
    assert (await read(storage, sound)).state is JobState.PENDING
    await storage.promote()


async def test_the_tables_of_workers_attempts_and_queues_refuse_values_that_statements_could_not_handle(
    edited: Edited,
) -> None:
    storage = edited.storage
    worker = await register_worker(storage)
    failed = await add_job(storage)
    await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
    await storage.lead(worker.id, 60)
    changes: list[tuple[LiteralString, Any]] = [
        ("UPDATE {}.attempt SET started_at = '10000-01-01' WHERE job = %s", failed),
        ("UPDATE {}.attempt SET finished_at = '-infinity' WHERE job = %s", failed),
        ("UPDATE {}.worker SET beat_at = 'infinity' WHERE id = %s", worker.id),
        ("UPDATE {}.worker SET expires_at = '-infinity' WHERE id = %s", worker.id),
        ("UPDATE {}.worker SET lost_after = 'NaN' WHERE id = %s", worker.id),
        ("UPDATE {}.worker SET queues = array[NULL] WHERE id = %s", worker.id),
        ("UPDATE {}.maintenance SET expires_at = 'infinity' WHERE worker = %s", worker.id),
        ("INSERT INTO {}.queue (name, completed) VALUES (%s, 'Infinity')", "q"),
    ]
    for change, value in changes:
        with pytest.raises(psycopg.errors.CheckViolation):
            await edited.write(change, value)


async def test_a_running_job_that_was_deleted_by_hand_leaves_nothing_when_its_worker_is_lost(edited: Edited) -> None:
    storage = edited.storage
    worker = await register_worker(storage)
    job, other = await add_job(storage), await add_job(storage)
    await claim(storage, worker)
    await edited.write("DELETE FROM {}.job WHERE id = %s", job)
    await edited.write("DELETE FROM {}.worker WHERE id = %s", worker.id)
    await storage.rescue()
    counts = (await storage.counts("default"))["default"]
    assert (counts[JobState.PROCESSING], counts[JobState.PENDING]) == (0, 1)
    assert (await read(storage, other)).state is JobState.PENDING


async def test_a_missing_table_is_named_with_the_remedy(edited: Edited) -> None:
    async with await psycopg.AsyncConnection.connect(edited.dsn) as connection:
        await connection.execute(sql.SQL("DROP VIEW {}.job_state").format(sql.Identifier(edited.storage.schema)))
        await connection.execute(sql.SQL("DROP TABLE {}.waiting").format(sql.Identifier(edited.storage.schema)))
    with pytest.raises(SchemaError, match=r'waiting" does not exist'):
        await edited.storage.add([new_job(run_at=5.0)])


@pytest.mark.parametrize("table", ["job (a text)", "worker (a text)", "migration (a text)"])
async def test_a_table_that_jobq_did_not_create_is_named_and_left_alone(
    postgres_dsn: str, postgres_schema: str, table: str
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute(f"CREATE SCHEMA {postgres_schema}")  # type: ignore[arg-type]
        await connection.execute(f"CREATE TABLE {postgres_schema}.{table}")  # type: ignore[arg-type]
        with pytest.raises(SchemaError, match=r"jobq did not create.*out of the way"):
            await PostgresQueueStorage(postgres_dsn, schema=postgres_schema).migrate()
        found = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (postgres_schema,))
        assert await found.fetchall() == [(table.split()[0],)]
