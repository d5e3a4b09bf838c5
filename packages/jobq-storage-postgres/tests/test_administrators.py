"""Databases, roles and sessions as administrators set them up."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from jobq_core.errors import ConfigurationError, StorageError, StorageUnavailableError
from jobq_core.records import WorkerStats
from jobq_core.storage import Claim, queue_topic
from jobq_core.testing import add_job, new_job, register_worker
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.protocol import Statement
from jobq_storage_postgres.session_settings import IDLE_IN_TRANSACTION_SECONDS, LOCK_SECONDS

from .parts import ACTS

Create: TypeAlias = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture
async def admin(postgres_dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


@pytest_asyncio.fixture
async def create_database(admin: psycopg.AsyncConnection[Any], postgres_dsn: str) -> AsyncIterator[Create]:
    """Create a database with settings, and return its DSN."""
    made: list[str] = []

    async def create(encoding: str = "UTF8", **settings: str) -> str:
        name = f"db_{uuid.uuid4().hex[:12]}"
        made.append(name)
        await admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'".encode())
        for setting, value in settings.items():
            await admin.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'".encode())
        return postgres_dsn.replace("/postgres?", f"/{name}?")

    yield create
    for name in made:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


async def ask(dsn: str, query: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(query.encode())
        return await cursor.fetchall() if cursor.description else []


async def setting(storage: PostgresQueueStorage, name: str) -> str:
    ((value,),) = await storage._engine.database.fetch(Statement("ask", f"SELECT current_setting('{name}')"))
    return str(value)


@pytest.mark.parametrize("prepared", [None, False])
async def test_all_goes_on_beside_a_publication_for_all_tables(create_database: Create, prepared: bool | None) -> None:
    dsn = await create_database()
    storage = PostgresQueueStorage(dsn, prepared=prepared)
    await storage.migrate()
    await ask(dsn, "CREATE PUBLICATION everything FOR ALL TABLES")
    async with storage:
        for act in ACTS.values():
            await act(storage, storage)
    without = await ask(
        dsn,
        "SELECT relname FROM pg_class c WHERE relnamespace = 'jobq'::regnamespace AND relkind IN ('r', 'p') "
        "AND relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)",
    )
    assert without == []


async def test_row_level_security_is_an_error_that_names_the_remedy(
    create_database: Create, admin: psycopg.AsyncConnection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    dsn = await create_database()
    role = f"r_{uuid.uuid4().hex[:12]}"
    await admin.execute(f"CREATE ROLE {role} LOGIN".encode())
    try:
        owner = PostgresQueueStorage(dsn)
        await owner.migrate()
        await owner.grant({"worker": [role]})
        assert not caplog.records
        await ask(dsn, "ALTER TABLE jobq.ready ENABLE ROW LEVEL SECURITY")
        for repeat in (owner.migrate(), owner.grant({"worker": [role]})):
            caplog.clear()
            await repeat
            assert "row level security is on for ready" in caplog.text
            assert "DISABLE ROW LEVEL SECURITY" in caplog.text
        async with owner, PostgresQueueStorage(dsn.replace("postgres@", f"{role}@", 1)) as blind:
            await add_job(owner)
            worker = await register_worker(owner)
            with pytest.raises(StorageError, match=r"row level security would hide jobs from role .*BYPASSRLS"):
                await blind.settle_and_claim(worker.id, claim=Claim.of("default", limit=1))
            await admin.execute(f"ALTER ROLE {role} BYPASSRLS".encode())
            assert len((await blind.settle_and_claim(worker.id, claim=Claim.of("default", limit=1))).claimed) == 1
    finally:
        await admin.execute(f"DROP OWNED BY {role}".encode())
        await ask(dsn, f"DROP OWNED BY {role}")
        await admin.execute(f"DROP ROLE {role}".encode())


async def test_partitions_are_dropped_where_strings_do_not_conform(create_database: Create) -> None:
    dsn = await create_database(standard_conforming_strings="off", escape_string_warning="off")
    storage = PostgresQueueStorage(dsn)
    await storage.migrate()
    old = await ask(dsn, "SELECT relname FROM pg_class WHERE relname ~ '^(job|outcome)_[0-9]+$'")
    assert old
    await ask(
        dsn,
        "CREATE OR REPLACE FUNCTION jobq.clock() RETURNS timestamptz LANGUAGE sql AS "
        "$$ SELECT pg_catalog.clock_timestamp() + interval '40 days' $$",
    )
    async with storage:
        await storage._maintain_partitions()
    new = await ask(dsn, "SELECT relname FROM pg_class WHERE relname ~ '^(job|outcome)_[0-9]+$'")
    assert new
    assert not set(new) & set(old)


async def test_the_databases_own_tablespace_may_be_set_by_name(create_database: Create) -> None:
    dsn = await create_database(default_tablespace="pg_default")
    storage = PostgresQueueStorage(dsn)
    await storage.migrate()
    await ask(
        dsn,
        "CREATE OR REPLACE FUNCTION jobq.clock() RETURNS timestamptz LANGUAGE sql AS "
        "$$ SELECT pg_catalog.clock_timestamp() + interval '40 days' $$",
    )
    before = await ask(dsn, "SELECT count(*) FROM pg_inherits")
    async with storage:
        await storage._engine.fetch("make_partitions")
    assert await ask(dsn, "SELECT count(*) FROM pg_inherits") > before


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
@pytest.mark.parametrize("prepared", [None, False])
async def test_a_stricter_default_isolation_is_not_used(
    create_database: Create, level: str, prepared: bool | None
) -> None:
    dsn = await create_database(default_transaction_isolation=level)
    storage = PostgresQueueStorage(dsn, prepared=prepared)
    await storage.migrate()
    async with storage:
        assert await setting(storage, "transaction_isolation") == "read committed"
        with pytest.raises(StorageError):
            await storage._engine.database.fetch(Statement("fail", "SELECT 1 / 0"))
        for act in ACTS.values():
            await act(storage, storage)
        worker = await register_worker(storage)
        heartbeat = storage.heartbeat(worker)
        try:
            assert heartbeat.beat(WorkerStats())
        finally:
            heartbeat.close()


async def test_sessions_outlive_the_servers_limit_for_idle_ones(create_database: Create) -> None:
    dsn = await create_database(idle_session_timeout="20ms")
    storage = PostgresQueueStorage(dsn)
    await storage.migrate()
    async with storage, storage.subscribe(["finished"]):
        pids = "SELECT pid FROM pg_stat_activity WHERE application_name = 'jobq' ORDER BY pid"
        before = await ask(dsn, pids)
        assert len(before) == 2
        await ask(dsn, "SELECT pg_sleep(0.1)")
        assert await ask(dsn, pids) == before


@pytest.mark.parametrize("prepared", [None, False])
async def test_transactions_end_though_their_process_is_paused(
    postgres_dsn: str, empty_schema: str, prepared: bool | None
) -> None:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema, prepared=prepared) as storage:
        assert await setting(storage, "lock_timeout") == f"{LOCK_SECONDS:g}s"
        assert await setting(storage, "idle_in_transaction_session_timeout") == f"{IDLE_IN_TRANSACTION_SECONDS:g}s"


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_whose_encoding_cannot_hold_every_text_is_refused(
    create_database: Create, encoding: str
) -> None:
    dsn = await create_database(encoding)
    with pytest.raises(StorageError, match=f"encoding {encoding}.*UTF8"):
        await PostgresQueueStorage(dsn).migrate()
    assert await ask(dsn, "SELECT nspname FROM pg_namespace WHERE nspname = 'jobq'") == []


@pytest.mark.parametrize("encoding", ["latin1", "sql_ascii"])
@pytest.mark.parametrize("key", [None, "k"])
async def test_a_callers_session_that_would_change_text_is_refused(
    postgres_dsn: str, empty_schema: str, encoding: str, key: str | None
) -> None:
    async with (
        PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage,
        await psycopg.AsyncConnection.connect(postgres_dsn) as connection,
    ):
        (added,) = await storage.add([new_job(unique_key=key)], connection=connection)
        assert added.created
        await connection.execute(sql.SQL("SET client_encoding = {}").format(encoding))
        with pytest.raises(ConfigurationError, match=f"client_encoding {encoding.upper()}"):
            await storage.add([new_job(unique_key=key)], connection=connection)


async def test_a_closed_connection_of_the_caller_is_refused(postgres_dsn: str, empty_schema: str) -> None:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
        connection = await psycopg.AsyncConnection.connect(postgres_dsn)
        await connection.close()
        with pytest.raises(ConfigurationError, match="connection= is closed"):
            await storage.add([new_job()], connection=connection)


async def test_each_connection_asks_for_its_password(postgres_dsn: str, postgres_schema: str) -> None:
    given: list[str] = []

    def password() -> str:
        given.append(f"token {len(given)}")
        return given[-1]

    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema, password=password)
    await storage.migrate()
    assert len(given) == 1
    async with storage:
        assert len(given) == 2
        worker = await register_worker(storage)
        heartbeat = storage.heartbeat(worker)
        try:
            assert heartbeat.beat(WorkerStats())
        finally:
            heartbeat.close()
        assert len(given) == 3
        async with storage.subscribe([queue_topic("default")]):
            assert len(given) == 4
    assert "token" not in repr(storage) + storage.url


@pytest.mark.parametrize("wrong", [RuntimeError("s3cret"), SystemExit(3), None])
async def test_a_password_that_cannot_be_had_is_an_outage(
    postgres_dsn: str, postgres_schema: str, wrong: BaseException | None
) -> None:
    def password() -> Any:
        if wrong is not None:
            raise wrong

    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema, password=password)
    with pytest.raises(StorageUnavailableError, match="password=") as caught:
        await storage.open()
    assert "s3cret" not in str(caught.value)


def test_a_password_is_given_as_a_function() -> None:
    with pytest.raises(ConfigurationError, match="a function") as caught:
        PostgresQueueStorage("postgresql://db/shop", password="s3cret")  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


async def test_a_listener_that_gets_no_answer_holds_up_no_subscription(
    postgres_dsn: str, empty_schema: str, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    accepted: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", unused_tcp_port)
    storage = PostgresQueueStorage(
        postgres_dsn, schema=empty_schema, listen_dsn=f"postgresql://x@127.0.0.1:{unused_tcp_port}/x"
    )
    try:
        async with asyncio.timeout(10), storage, storage.subscribe(["finished"]) as subscription:
            job = await add_job(storage)
            await storage.delete([job])
            assert await subscription.wait(5) == {"finished"}  # of this storage object
            async with storage.subscribe(["other"]):
                pass
    finally:
        silent.close()
        for writer in accepted:
            writer.close()


@pytest.mark.parametrize("key", [None, "k"])
async def test_functions_of_the_callers_search_path_are_not_used(create_database: Create, key: str | None) -> None:
    dsn = await create_database()
    storage = PostgresQueueStorage(dsn)
    await storage.migrate()
    for trap in (
        "CREATE SCHEMA trap",
        "CREATE FUNCTION trap.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE sql AS 'SELECT NULL'",
        "CREATE FUNCTION trap.make_interval(secs float8) RETURNS interval LANGUAGE sql AS 'SELECT NULL::interval'",
        "CREATE FUNCTION trap.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
    ):
        await ask(dsn, trap)
    async with storage, await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("SET search_path = trap, pg_catalog")
        jobs = [new_job(), new_job(run_at=60.0, tags=("t",), unique_key=key)]
        await storage.add(jobs, connection=connection)
        await connection.commit()
        ((position,),) = await ask(dsn, "SELECT last_value FROM jobq.position")
        assert position == 2
        record = (await storage.get([jobs[1].id]))[0]
        assert record is not None
        assert record.run_at is not None
        assert (record.run_at - record.created_at).total_seconds() == 60
        assert record.tags == ("t",)
