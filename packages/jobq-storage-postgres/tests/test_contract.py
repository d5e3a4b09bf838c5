"""PostgreSQL keeps the contract that every storage keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest_asyncio
from psycopg import sql

from jobq_core.storage import QueueStorage
from jobq_core.testing import LogsContract, StorageContract
from jobq_core.testing.contract.reference import ReferenceContract
from jobq_storage_postgres import PostgresQueueStorage


async def move_clock(dsn: str, schema: str, seconds: float) -> None:
    """Let all time of the schema run so many seconds ahead."""
    name = sql.Identifier(schema, "clock")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(
            sql.SQL(
                "CREATE OR REPLACE FUNCTION {}() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE AS {}"
            ).format(name, sql.Literal(f"SELECT pg_catalog.clock_timestamp() + interval '{seconds:.6f} seconds'"))
        )


class TestPostgresQueueStorage(StorageContract, LogsContract):
    @pytest_asyncio.fixture
    async def storage(self, postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
        self._dsn = postgres_dsn
        self._moved = 0.0
        storage = PostgresQueueStorage(postgres_dsn, schema=empty_schema)
        async with storage:
            yield storage

    async def second(self, storage: QueueStorage) -> QueueStorage:
        assert isinstance(storage, PostgresQueueStorage)
        other = PostgresQueueStorage(self._dsn, schema=storage.schema)
        await other.open()
        return other

    async def advance(self, storage: QueueStorage, seconds: float) -> None:
        assert isinstance(storage, PostgresQueueStorage)
        self._moved += seconds
        await move_clock(self._dsn, storage.schema, self._moved)


class TestLives(ReferenceContract):
    """On a clock that stands still, so that no order depends on times alone."""

    @pytest_asyncio.fixture
    async def storage(self, postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
        self._dsn = postgres_dsn
        async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
            self._now = await storage.now()
            await self.advance(storage, 0)
            yield storage

    async def second(self, storage: QueueStorage) -> QueueStorage:
        raise NotImplementedError

    async def advance(self, storage: QueueStorage, seconds: float) -> None:
        assert isinstance(storage, PostgresQueueStorage)
        self._now += timedelta(seconds=seconds)
        name = sql.Identifier(storage.schema, "clock")
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            await connection.execute(
                sql.SQL("CREATE OR REPLACE FUNCTION {}() RETURNS timestamptz LANGUAGE sql VOLATILE AS {}").format(
                    name, sql.Literal(f"SELECT timestamptz '{self._now.isoformat()}'")
                )
            )
