"""Behind a pooler in transaction mode: nothing is kept in the session, and the contract is kept all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest_asyncio
from psycopg import sql

from jobq_core.storage import QueueStorage
from jobq_core.testing import new_job, register_worker
from jobq_core.testing.contract.claiming import ClaimingContract
from jobq_core.testing.contract.control import ControlContract
from jobq_core.testing.contract.fencing import FencingContract
from jobq_core.testing.contract.settling import SettlingContract
from jobq_core.testing.contract.unique import UniqueContract
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.protocol import Statement


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(postgres_dsn, schema=empty_schema, prepared=False)
    async with storage:
        yield storage


class TestPooled(ClaimingContract, SettlingContract, FencingContract, ControlContract, UniqueContract):
    """The part of the contract where it matters what one transaction is."""

    @pytest_asyncio.fixture
    async def storage(self, postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
        self._dsn = postgres_dsn
        self._moved = 0.0
        storage = PostgresQueueStorage(postgres_dsn, schema=empty_schema, prepared=False)
        async with storage:
            yield storage

    async def second(self, storage: QueueStorage) -> QueueStorage:
        assert isinstance(storage, PostgresQueueStorage)
        other = PostgresQueueStorage(self._dsn, schema=storage.schema, prepared=False)
        await other.open()
        return other

    async def advance(self, storage: QueueStorage, seconds: float) -> None:
        assert isinstance(storage, PostgresQueueStorage)
        self._moved += seconds
        name = sql.Identifier(storage.schema, "clock")
        body = sql.Literal(f"SELECT pg_catalog.clock_timestamp() + interval '{self._moved:.6f} seconds'")
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            await connection.execute(
                sql.SQL("CREATE OR REPLACE FUNCTION {}() RETURNS timestamptz LANGUAGE sql AS {}").format(name, body)
            )


async def test_nothing_is_left_in_the_session(storage: PostgresQueueStorage) -> None:
    await register_worker(storage)
    await storage.add([new_job(unique_key="k"), new_job()])
    await storage.now()
    connection = storage._engine.pool._idle[-1][0]
    asked = Statement(
        "asked",
        "SELECT current_setting('enable_seqscan'), current_setting('search_path'), "
        "current_setting('statement_timeout'), "
        "(SELECT count(*) FROM pg_prepared_statements), "
        "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())",
    )
    ((row,),) = await connection.fetch([(asked, ())])
    assert row == ("on", '"$user", public', "0", 0, 0)


async def test_a_direct_connection_is_distinguished_from_a_pooled_one(postgres_dsn: str, empty_schema: str) -> None:
    direct = PostgresQueueStorage(postgres_dsn, schema=empty_schema)
    async with direct:
        await direct.now()
        assert not direct._engine.pool._idle[-1][0].pooled
