"""Migrations: each is applied once, by any number of callers; a schema that does not fit is refused by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

from jobq_core.errors import SchemaError, StorageUnavailableError
from jobq_core.migrations import Migration, Migrations
from jobq_core.records import JobRecord
from jobq_core.testing import fill, new_job, work_on
from jobq_core.testing.migrating import CLAIMABLE
from jobq_storage_postgres import PostgresQueueStorage, migrations
from jobq_storage_postgres.migrations import known

Know = Callable[..., None]

NAMES = [migration.name for migration in known().steps]
NOTES = Migration("0002_pre_notes", "CREATE TABLE jobq.note (job uuid PRIMARY KEY, note text);\n")
FEWER = Migration("0003_post_fewer", "ALTER TABLE jobq.note DROP COLUMN note;\n")
LATER = Migration(
    "0004_pre_later",
    "".join(
        f"ALTER TABLE jobq.{table} ADD COLUMN mood text DEFAULT 'good';\n"
        for table in ("job", "waiting", "ready", "running", "outcome", "attempt", "unique_key", "worker", "tally")
    ),
)
"""What older code does not know of in every table that it writes to."""


@pytest.fixture
def storage(postgres_dsn: str, postgres_schema: str) -> PostgresQueueStorage:
    """A storage whose tables are not made yet."""
    return PostgresQueueStorage(postgres_dsn, schema=postgres_schema)


@pytest.fixture
def know(monkeypatch: pytest.MonkeyPatch) -> Know:
    """Let the code know more migrations than it has."""

    first = known()

    def know(*more: Migration) -> None:
        monkeypatch.setattr(migrations, "known", lambda: Migrations(first.package, (*first.steps, *more)))

    return know


async def test_two_at_once_apply_each_migration_once(postgres_dsn: str, postgres_schema: str) -> None:
    storages = [PostgresQueueStorage(postgres_dsn, schema=postgres_schema) for _ in range(8)]
    done = await asyncio.gather(*(storage.migrate() for storage in storages))
    assert sorted(done) == [[]] * 7 + [NAMES]
    assert await storages[0].migrate() == []


async def test_a_migrator_that_stops_in_the_middle_keeps_others_out_for_a_limited_time(
    postgres_dsn: str, postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_IDLE_SECONDS", 0.3)
    stopped, go_on = asyncio.Event(), asyncio.Event()

    class Stopping(psycopg.AsyncConnection[Any]):
        async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
            done = await super().execute(query, params, **options)
            if isinstance(query, bytes) and not stopped.is_set():
                stopped.set()
                await go_on.wait()
            return done

    storages = [PostgresQueueStorage(postgres_dsn, schema=postgres_schema) for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(psycopg, "AsyncConnection", Stopping)
        paused = asyncio.create_task(storages[0].migrate())
        await stopped.wait()
    assert await asyncio.wait_for(storages[1].migrate(), 30) == NAMES
    go_on.set()
    with pytest.raises(StorageUnavailableError, match=r"idle-in-transaction timeout|connection"):
        await paused
    assert await storages[0].migrate() == []


async def test_adds_go_on_while_a_migration_waits_for_a_transaction(
    storage: PostgresQueueStorage, know: Know, monkeypatch: pytest.MonkeyPatch, postgres_dsn: str, postgres_schema: str
) -> None:
    await storage.migrate()
    waiting = asyncio.Event()
    monkeypatch.setattr(migrations._log, "info", lambda *_: waiting.set())
    reads = sql.SQL("SELECT FROM {} LIMIT 1").format(sql.Identifier(postgres_schema, "outcome"))
    async with storage, await psycopg.AsyncConnection.connect(postgres_dsn) as backup:
        know(LATER)
        await backup.execute(reads)
        migrating = asyncio.create_task(storage.migrate())
        await asyncio.wait_for(waiting.wait(), 30)
        await storage.add([new_job()])
        await backup.rollback()
        assert await asyncio.wait_for(migrating, 30) == [LATER.name]


async def test_a_migration_that_cannot_have_a_table_changes_nothing_and_says_who_uses_it(
    storage: PostgresQueueStorage, know: Know, monkeypatch: pytest.MonkeyPatch, postgres_dsn: str, postgres_schema: str
) -> None:
    await storage.migrate()
    know(LATER)
    monkeypatch.setattr(migrations, "_TRIES", 1)
    reads = sql.SQL("SELECT FROM {} LIMIT 1").format(sql.Identifier(postgres_schema, "outcome"))
    async with await psycopg.AsyncConnection.connect(postgres_dsn, application_name="a backup") as backup:
        await backup.execute(reads)
        with pytest.raises(
            StorageUnavailableError, match=r"in use: process \d+ of the server \(a backup\) has a trans"
        ):
            await storage.migrate()
    assert await storage.migrate() == [LATER.name]


async def test_a_commit_that_fails_leaves_no_connection_behind(
    postgres_dsn: str, postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[psycopg.AsyncConnection[Any]] = []

    class Failing(psycopg.AsyncConnection[Any]):
        async def commit(self) -> None:
            made.append(self)
            raise psycopg.OperationalError("injected")

    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    with monkeypatch.context() as patch:
        patch.setattr(psycopg, "AsyncConnection", Failing)
        with pytest.raises(StorageUnavailableError, match="injected"):
            await storage.migrate()
    assert [connection.closed for connection in made] == [True]
    assert await storage.migrate() == NAMES


async def test_missing_tables_are_an_error_that_names_the_remedy(postgres_dsn: str, postgres_schema: str) -> None:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    with pytest.raises(SchemaError, match=r"run `jobq migrate`, or `await storage.migrate\(\)` before opening"):
        await storage.open()
    await storage.migrate()
    async with storage:
        assert len(await storage.add([new_job()])) == 1


async def test_a_schema_without_recorded_migrations_is_refused(postgres_dsn: str, postgres_schema: str) -> None:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await storage.migrate()
    await change(postgres_dsn, postgres_schema, "DELETE FROM {} WHERE name = %s", NAMES[0])
    with pytest.raises(SchemaError, match=r"has no tables of jobq.*jobq migrate"):
        await storage.open()


async def test_an_edited_migration_is_refused(postgres_dsn: str, postgres_schema: str) -> None:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await storage.migrate()
    await change(postgres_dsn, postgres_schema, "UPDATE {} SET checksum = 'x' WHERE name = %s", NAMES[0])
    with pytest.raises(SchemaError, match=NAMES[0]):
        await storage.migrate()
    with pytest.raises(SchemaError, match=NAMES[0]):
        await storage.open()


async def test_a_newer_schema_is_fine_before_its_post_migration_and_refused_after(
    postgres_dsn: str, postgres_schema: str
) -> None:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await storage.migrate()
    insert = "INSERT INTO {} (name, checksum) VALUES (%s, 'x')"
    await change(postgres_dsn, postgres_schema, insert, "9998_pre_more")
    async with storage:
        assert len(await storage.add([new_job()])) == 1
    await change(postgres_dsn, postgres_schema, insert, "9999_post_less")
    with pytest.raises(SchemaError, match=r"newer than this code.*9999_post_less"):
        await storage.open()


async def test_jobs_survive_the_refusal_of_an_edited_migration(storage: PostgresQueueStorage, know: Know) -> None:
    know(NOTES)
    await storage.migrate()
    before = await filled(storage)
    know(Migration(NOTES.name, NOTES.text + "-- never mind\n"))
    await refused(storage, r"0002_pre_notes.*differs from the text")
    know(NOTES)
    await go_on(storage, before)


async def test_jobs_survive_the_refusal_of_a_schema_from_the_future(storage: PostgresQueueStorage, know: Know) -> None:
    know(NOTES, FEWER)
    await storage.migrate()
    before = await filled(storage)
    know()
    await refused(storage, r"newer than this code.*0003_post_fewer")
    know(NOTES, FEWER)
    await go_on(storage, before)


async def test_jobs_survive_the_refusal_of_tables_that_no_migration_is_recorded_for(
    storage: PostgresQueueStorage, postgres_dsn: str, know: Know
) -> None:
    know(NOTES)
    await storage.migrate()
    before = await filled(storage)
    await change(postgres_dsn, storage.schema, "DELETE FROM {} WHERE name = %s", NOTES.name)
    with pytest.raises(SchemaError, match=r"older than this code \(it lacks 0002_pre_notes\).*jobq migrate"):
        await storage.open()
    with pytest.raises(SchemaError, match=r'jobq did not create: relation "note" already exists'):
        await storage.migrate()
    know()
    await go_on(storage, before)


async def test_a_gap_is_refused_and_filled_by_migrating(storage: PostgresQueueStorage, know: Know) -> None:
    know(LATER)
    assert (await storage.migrate())[-1:] == [LATER.name]
    before = await filled(storage)
    know(NOTES, LATER)
    with pytest.raises(SchemaError, match=r"older than this code \(it lacks 0002_pre_notes\).*jobq migrate"):
        await storage.open()
    assert await storage.migrate() == [NOTES.name]
    await go_on(storage, before)
    know(LATER)
    await go_on(storage, [])


async def test_a_worker_does_all_its_work_on_a_newer_schema_before_its_post_migration(
    storage: PostgresQueueStorage, postgres_dsn: str, know: Know
) -> None:
    """One that was there before, whose statements are prepared, and one that comes after."""
    await storage.migrate()
    before = await filled(storage)
    async with PostgresQueueStorage(postgres_dsn, schema=storage.schema) as there_before:
        await work_on(there_before, before)
        know(NOTES, LATER)
        assert await storage.migrate() == [NOTES.name, LATER.name]
        know()
        await work_on(there_before, [])
    know()
    await go_on(storage, [record for record in before if record.state not in CLAIMABLE])


async def test_the_script_does_what_migrating_does(postgres_dsn: str, postgres_schema: str) -> None:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute(storage.migration_sql().encode())
    assert await storage.migrate() == []
    async with storage:
        assert len(await storage.add([new_job()])) == 1


HOSTILE = [
    "Mixed Case",
    'qu"ote',
    "it's",
    "per%cent %s %(x)s",
    "été 日本",
    "select",
    "jobq.jobq.",
    "semi; DROP",
    "--",
    "/* x */",
    "a.b",
    "$1 $x$",
    ":name",
    "{0}",
    "'\"'\"",
    "jobq.job'::",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_any_name_serves_as_schema(postgres_dsn: str, postgres_schema: str, name: str) -> None:
    schema = f"{name}{postgres_schema[-8:]}"
    storage = PostgresQueueStorage(postgres_dsn, schema=schema)
    await storage.migrate()
    try:
        async with storage:
            assert (await storage.migrate(), await storage.prune(), (await storage.rescue()).workers) == ([], 0, [])
            (added,) = await storage.add([new_job()])
            assert [record is not None for record in await storage.get([added.id])] == [True]
            async with storage.subscribe(["finished"]) as subscription:
                async with PostgresQueueStorage(postgres_dsn, schema=schema) as other:
                    await other.delete([added.id])
                    assert await subscription.wait(20) == {"finished"}
    finally:
        async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
            await connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


@pytest.mark.parametrize("name", HOSTILE)
async def test_any_name_serves_in_the_script(postgres_dsn: str, postgres_schema: str, name: str) -> None:
    schema = f"{name}{postgres_schema[-8:]}"
    storage = PostgresQueueStorage(postgres_dsn, schema=schema)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute(storage.migration_sql().encode())
        try:
            assert await storage.migrate() == []
            await storage.grant({"reader": ["postgres"]})
            found = await connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", ("%" + schema[-8:],)
            )
            assert await found.fetchall() == [(schema,)]
        finally:
            await connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


async def filled(storage: PostgresQueueStorage) -> list[JobRecord]:
    """Put jobs in all states but one into a schema, and return them."""
    async with storage:
        return await fill(storage)


async def refused(storage: PostgresQueueStorage, said: str) -> None:
    """See that neither opening nor migrating is possible."""
    for attempt in (storage.open, storage.migrate):
        with pytest.raises(SchemaError, match=said):
            await attempt()


async def go_on(storage: PostgresQueueStorage, before: list[JobRecord]) -> None:
    """See that these jobs are as they were, and that a worker claims, settles, loses and prunes them and others."""
    async with storage:
        await work_on(storage, before)


async def change(dsn: str, schema: str, query: str, name: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(
            sql.SQL(query).format(sql.Identifier(schema, "migration")),
            (name,),
        )
