"""Rows by a stranger's hand, and tables that are not jobq's: none stands in the others' way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from jobq_core.errors import ConfigurationError, SchemaError
from jobq_core.states import Ending, JobState
from jobq_core.storage import JobFilter, Settlement
from jobq_core.testing import ERROR, add_job, claim, claim_one, new_job, read, register_worker, settle
from jobq_storage_postgres import PostgresQueueStorage


class Place:
    """A storage, and a hand that writes into its tables."""

    def __init__(self, storage: PostgresQueueStorage, dsn: str) -> None:
        self.storage = storage
        self.dsn = dsn

    async def write(self, text: LiteralString, *values: Any) -> None:
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            schema = sql.Identifier(self.storage.schema)
            assert (await connection.execute(sql.SQL(text).format(schema), values)).rowcount == 1


@pytest.fixture
async def place(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[Place]:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await storage.migrate()
    async with storage:
        yield Place(storage, postgres_dsn)


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
        ("ready SET attempt", "32767"),
        ("ready SET attempt", "-5"),
        ("ready SET details", "1e999"),
        ("ready SET percent", "NaN"),
        ("ready SET run_at", "-infinity"),
        ("ready SET position", "-9223372036854775807"),
    ],
    ids=str,
)
async def test_a_strange_row_is_read_and_claimed_with_the_others(place: Place, change: str, value: str) -> None:
    storage = place.storage
    worker = await register_worker(storage)
    strange, sound = await add_job(storage), await add_job(storage, tags=("fine",))
    await place.write(f"UPDATE {{}}.{change} = %s WHERE id = %s", value, strange)  # type: ignore[arg-type]
    assert {job.id for job in (await storage.find(JobFilter())).jobs} == {strange, sound}
    assert None not in await storage.get_status([strange, sound])
    claimed = await claim(storage, worker)
    assert {job.id for job in claimed} == {strange, sound}
    assert len(await storage.recover_claims(worker.id, [])) == 2
    assert (await read(storage, strange)).state is JobState.PROCESSING
    for job in claimed:
        await settle(storage, worker, job, Ending.FAIL, error=ERROR)
    assert (await storage.counts("default"))["default"][JobState.FAILED] == 2


async def test_a_running_job_of_the_lowest_attempt_is_settled_and_taken_back_with_the_others(place: Place) -> None:
    storage = place.storage
    worker = await register_worker(storage)
    strange, sound = await add_job(storage), await add_job(storage)
    lowest = "UPDATE {}.running SET attempt = -32768 WHERE id = %s"
    claimed = {job.id: job for job in await claim(storage, worker)}
    await place.write(lowest, strange)
    ends = [Settlement(claimed[job].id, claimed[job].lease, Ending.RELEASE) for job in (strange, sound)]
    assert (await storage.settle_and_claim(worker.id, ends)).settled == [JobState.PENDING] * 2
    await claim(storage, worker)
    await place.write(lowest, strange)
    await storage.deregister(worker.id)
    (lost,) = await storage.rescue()
    assert {(job.id, job.state) for job in lost.jobs} == {(strange, JobState.PENDING), (sound, JobState.PENDING)}
    assert (await read(storage, strange)).attempt == 0


@pytest.mark.parametrize("moment", ["infinity", "-infinity"])
async def test_a_job_due_at_infinity_holds_up_no_promotion(place: Place, moment: str) -> None:
    storage = place.storage
    strange, sound = await add_job(storage, run_at=3600.0), await add_job(storage, run_at=3600.0)
    await place.write("UPDATE {}.waiting SET run_at = %s WHERE id = %s", moment, strange)
    await place.write("UPDATE {}.waiting SET run_at = now() WHERE id = %s", sound)
    await storage.promote(1)
    await storage.promote()
    assert (await read(storage, sound)).state is JobState.PENDING
    await storage.promote()


async def test_a_worker_with_strange_times_is_shown_and_lost(place: Place) -> None:
    storage = place.storage
    worker, other = await register_worker(storage), await register_worker(storage)
    await place.write("UPDATE {}.worker SET stats = '[1]', beat_at = 'infinity' WHERE id = %s", worker.id)
    assert {record.info.id for record in await storage.workers()} == {worker.id, other.id}
    await place.write("UPDATE {}.worker SET expires_at = '-infinity' WHERE id = %s", worker.id)
    assert [lost.worker for lost in await storage.rescue()] == [worker.id]


async def test_of_a_running_job_that_was_deleted_by_hand_nothing_is_left_when_its_worker_is_lost(place: Place) -> None:
    storage = place.storage
    worker = await register_worker(storage)
    job, other = await add_job(storage), await add_job(storage)
    await claim(storage, worker)
    await place.write("DELETE FROM {}.job WHERE id = %s", job)
    await place.write("DELETE FROM {}.worker WHERE id = %s", worker.id)
    await storage.rescue()
    counts = (await storage.counts("default"))["default"]
    assert (counts[JobState.PROCESSING], counts[JobState.PENDING]) == (0, 1)
    assert (await read(storage, other)).state is JobState.PENDING


async def test_the_lead_is_had_for_an_hour_at_most_by_a_stranger(place: Place) -> None:
    storage = place.storage
    worker, other = await register_worker(storage), await register_worker(storage)
    await place.write("UPDATE {}.maintenance SET worker = %s, expires_at = 'infinity'", other.id)
    leadership = await storage.lead(worker.id, 10)
    assert not leadership.leads
    assert 3500 < leadership.expires_in <= 3600


async def test_a_retention_that_cannot_be_reckoned_with_is_refused_by_the_table(place: Place) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        await place.write("INSERT INTO {}.queue (name, completed) VALUES ('q', 'Infinity')")


async def test_a_lost_table_is_named_with_the_remedy(place: Place) -> None:
    async with await psycopg.AsyncConnection.connect(place.dsn) as connection:
        await connection.execute(sql.SQL("DROP VIEW {}.job_state").format(sql.Identifier(place.storage.schema)))
        await connection.execute(sql.SQL("DROP TABLE {}.waiting").format(sql.Identifier(place.storage.schema)))
    with pytest.raises(SchemaError, match=r'waiting" does not exist'):
        await place.storage.add([new_job(run_at=5.0)])


@pytest.mark.parametrize("table", ["job (a text)", "worker (a text)", "migration (a text)"])
async def test_a_table_of_somebody_else_in_the_way_is_named_and_left_alone(
    postgres_dsn: str, postgres_schema: str, table: str
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute(f"CREATE SCHEMA {postgres_schema}")  # type: ignore[arg-type]
        await connection.execute(f"CREATE TABLE {postgres_schema}.{table}")  # type: ignore[arg-type]
        with pytest.raises(SchemaError, match=r"jobq did not create.*out of the way"):
            await PostgresQueueStorage(postgres_dsn, schema=postgres_schema).migrate()
        found = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (postgres_schema,))
        assert await found.fetchall() == [(table.split()[0],)]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:hidden@db/shop?pool_sise=5", r"no option 'pool_sise'; is 'pool_size' meant\?"),
        ("postgresql://u:hidden@db/shop?passwort=hidden", r"no option 'passwort'; is 'password' meant\?"),
        ("postgresql://u:hidden@db/shop?hidden%20x=1", "the DSN is neither"),
        ("postgresql://u:hidden@db:port/shop", "port is no number from 1 to 65535"),
        ("postgresql://u:hidden@db:0/shop", "port is no number"),
        ("postgresql://u:hidden@db:70000/shop", "port is no number"),
        ("postgresql://u:hid/den@db/shop", "port is no number"),
        ("postgresql://u:hid%den@db/shop", "the DSN is neither"),
        ("postgresql://db/shop?pool_size=nan", "pool_size must be a whole number from 1 to 10000"),
        ("postgresql://db/shop?pool_size=inf", "pool_size must be"),
        ("postgresql://db/shop?pool_size=1e9", "pool_size must be"),
        ("postgresql://db/shop?pool_size=2.5", "pool_size must be"),
        ("postgresql://db/shop?time_limit=nan", "time_limit must be"),
    ],
)
def test_a_url_that_cannot_work_is_refused_by_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        PostgresQueueStorage(url)
    assert not {"hidden", "hid/den", "hid%den"} & set(str(caught.value).split())
    assert ":hid" not in str(caught.value)


async def test_what_ran_once_runs_again_after_a_strange_row(place: Place) -> None:
    storage = place.storage
    worker = await register_worker(storage)
    job = await add_job(storage)
    await place.write("UPDATE {}.job SET deadline = 'infinity' WHERE id = %s", job)
    claimed = await claim_one(storage, worker)
    assert claimed.deadline_in is None
