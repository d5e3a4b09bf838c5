"""Jobs that are added in the caller's own transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row

from jobq_core.errors import ConfigurationError, StorageError
from jobq_core.states import JobState
from jobq_core.storage import WAITING_TOPIC, Added, queue_topic
from jobq_core.testing import new_job
from jobq_storage_postgres import PostgresQueueStorage

TOPIC = queue_topic("default")


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(postgres_dsn, schema=empty_schema)
    async with storage:
        yield storage


@pytest_asyncio.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        yield connection


async def pending(storage: PostgresQueueStorage) -> int:
    return (await storage.counts("default"))["default"][JobState.PENDING]


@pytest.mark.parametrize("key", [None, "k"])
async def test_jobs_are_there_when_the_callers_transaction_commits(
    storage: PostgresQueueStorage, connection: psycopg.AsyncConnection[Any], key: str | None
) -> None:
    job = new_job(unique_key=key)
    async with storage.subscribe([TOPIC]) as subscription:
        assert await storage.add([job, new_job()], connection=connection) != []
        assert await pending(storage) == 0
        assert await subscription.wait(0) == frozenset()
        await connection.commit()
        assert await subscription.wait(20) == {TOPIC}
    assert await pending(storage) == 2


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_rolled_back_transaction_added_nothing(
    storage: PostgresQueueStorage, connection: psycopg.AsyncConnection[Any], key: str | None
) -> None:
    await storage.add([new_job(unique_key=key)], connection=connection)
    await connection.rollback()
    assert await pending(storage) == 0
    if key is not None:
        assert [added.created for added in await storage.add([new_job(unique_key=key)])] == [True]


@pytest.mark.parametrize("key", [None, "k"])
async def test_how_durable_the_callers_commit_is_stays_as_it_was(
    storage: PostgresQueueStorage, connection: psycopg.AsyncConnection[Any], key: str | None
) -> None:
    await connection.execute("SET LOCAL synchronous_commit = 'remote_write'")
    await storage.add([new_job(unique_key=key)], connection=connection)
    assert await (await connection.execute("SHOW synchronous_commit")).fetchone() == ("remote_write",)


async def test_a_savepoint_that_is_undone_takes_its_jobs_along(
    storage: PostgresQueueStorage, connection: psycopg.AsyncConnection[Any]
) -> None:
    kept, undone = new_job(), new_job()
    async with connection.transaction():
        await storage.add([kept], connection=connection)
        async with connection.transaction(force_rollback=True):
            await storage.add([undone], connection=connection)
    assert [record is not None for record in await storage.get([kept.id, undone.id])] == [True, False]


async def test_a_connection_with_rows_as_dicts_serves(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, row_factory=dict_row) as connection:
        first, second = new_job(unique_key="k"), new_job(unique_key="k")
        assert await storage.add([first, second], connection=connection) == [
            Added(first.id, True),
            Added(first.id, False),
        ]
        # The connection is the caller's as it was.
        row = await (await connection.execute("SELECT 1 AS one")).fetchone()
        assert row == {"one": 1}
    assert await pending(storage) == 1


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_connection_in_autocommit_adds_at_once(
    storage: PostgresQueueStorage, postgres_dsn: str, key: str | None
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await storage.add([new_job(unique_key=key)], connection=connection)
        assert await pending(storage) == 1
        async with connection.transaction():
            await storage.add([new_job()], connection=connection)
            assert await pending(storage) == 1
        assert await pending(storage) == 2


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_connection_in_a_pipeline_serves(
    storage: PostgresQueueStorage, connection: psycopg.AsyncConnection[Any], key: str | None
) -> None:
    async with connection.pipeline():
        await connection.execute("SELECT 1")
        (added,) = await storage.add([new_job(unique_key=key)], connection=connection)
        assert added.created
        await connection.execute("SELECT 2")
    await connection.commit()
    assert await pending(storage) == 1


async def test_scheduled_jobs_notify_the_waiting_topic(
    storage: PostgresQueueStorage, connection: psycopg.AsyncConnection[Any]
) -> None:
    async with storage.subscribe([WAITING_TOPIC]) as subscription:
        await storage.add([new_job(run_at=60.0)], connection=connection)
        await connection.commit()
        assert await subscription.wait(20) == {WAITING_TOPIC}


async def test_another_schema_of_the_same_name_is_refused(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        name = storage.schema + "_db"
        await admin.execute(f"CREATE DATABASE {name}".encode())
        try:
            other_dsn = postgres_dsn.replace("/postgres?", f"/{name}?")
            async with await psycopg.AsyncConnection.connect(other_dsn) as other:
                with pytest.raises(ConfigurationError, match="another database"):
                    await storage.add([new_job()], connection=other)
                await other.execute("SELECT 1")  # the transaction is not broken by it
            await PostgresQueueStorage(other_dsn, schema=storage.schema).migrate()
            async with await psycopg.AsyncConnection.connect(other_dsn) as other:
                with pytest.raises(ConfigurationError, match="another database"):
                    await storage.add([new_job()], connection=other)
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


async def test_other_objects_than_connections_are_refused_by_name(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    with (
        psycopg.connect(postgres_dsn) as sync,
        pytest.raises(ConfigurationError, match=r"AsyncConnection.*not psycopg\.Connection"),
    ):
        await storage.add([new_job()], connection=sync)
    with pytest.raises(ConfigurationError, match=r"psycopg\.AsyncConnection.*builtins\.str"):
        await storage.add([new_job()], connection="postgresql://")
    assert await pending(storage) == 0


async def test_a_transaction_that_failed_already_refuses_and_stays_the_callers(
    storage: PostgresQueueStorage, connection: psycopg.AsyncConnection[Any]
) -> None:
    await storage.add([new_job()], connection=connection)
    with pytest.raises(psycopg.errors.DivisionByZero):
        await connection.execute("SELECT 1 / 0")
    with pytest.raises(StorageError):
        await storage.add([new_job()], connection=connection)
    await connection.rollback()
    assert await pending(storage) == 0
