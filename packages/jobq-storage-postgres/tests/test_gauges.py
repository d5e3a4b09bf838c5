"""What metrics show of the database: its connections, and its oldest transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest

from jobq_storage_postgres import PostgresQueueStorage


@pytest.fixture
async def storage(postgres_dsn: str, migrated_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    async with PostgresQueueStorage(postgres_dsn, schema=migrated_schema) as storage:
        yield storage


async def age(connection: psycopg.AsyncConnection) -> float:
    """Return for how many seconds the transaction of a connection is open."""
    cursor = await connection.execute("SELECT extract(epoch FROM clock_timestamp() - now())::float8")
    [seconds] = await cursor.fetchone() or [0.0]
    return float(seconds)


async def test_the_oldest_transaction_is_as_old_as_it_is(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as slow:
        await slow.execute("SELECT pg_current_xact_id()")
        before = await age(slow)
        found = await storage.oldest_transaction()
        assert found is not None
        assert found >= before > 0


async def test_connections_are_counted_by_state(storage: PostgresQueueStorage) -> None:
    pool = storage._engine.pool
    idle = storage.connections["idle"]
    connection = await pool.acquire()
    assert storage.connections == {"busy": 1, "idle": idle - 1, "waiting": 0}
    pool.release(connection)
    assert storage.connections == {"busy": 0, "idle": idle, "waiting": 0}
