"""Operations in a transaction of the application's, with each driver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import psycopg2.extras
import pytest
import pytest_asyncio
from psycopg.rows import dict_row
from psycopg.types.string import TextBinaryLoader

from jobq_core.errors import ConfigurationError, UniqueKeyBusyError
from jobq_core.ids import new_id
from jobq_core.states import JobState
from jobq_core.testing import add_job, new_job, state_of
from jobq_core.testing.callers import Caller, SyncCaller
from jobq_core.testing.contract.callers import CallersContract
from jobq_storage_postgres import PostgresQueueStorage

from .callers import ASYNC, CALLERS, DJANGO, DRIVERS, SYNC, Asyncpg, AsyncPsycopg, Psycopg, Psycopg2, retryable


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
        yield storage


@pytest_asyncio.fixture(params=CALLERS)
async def caller(request: pytest.FixtureRequest, postgres_dsn: str) -> AsyncIterator[Caller]:
    caller = CALLERS[request.param](postgres_dsn)
    await caller.ask("connect")
    yield caller
    await caller.close()


class TestCallers(CallersContract):
    """Each caller of the table keeps the contract."""


async def test_a_caller_whose_snapshot_is_too_old_gets_its_own_error_and_can_repeat_the_transaction(
    storage: PostgresQueueStorage, caller: Caller
) -> None:
    for level in ("REPEATABLE READ", "SERIALIZABLE"):
        job = await add_job(storage)
        await caller.ask("begin")
        await caller.ask("execute", f"SET TRANSACTION ISOLATION LEVEL {level}")
        await caller.ask("execute", "SELECT 1")
        await storage.abort([job])
        with pytest.raises(retryable(caller)):
            await caller.call(storage.abort, [job])
        await caller.ask("rollback")
        await caller.ask("begin")
        await caller.ask("execute", f"SET TRANSACTION ISOLATION LEVEL {level}")
        assert [change.before for change in await caller.call(storage.abort, [job])] == [JobState.ABORTED]
        assert (await caller.call(storage.add, [new_job()]))[0].created
        await caller.ask("commit")


async def test_values_are_read_whatever_the_caller_has_registered(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    job = await add_job(storage, tags=("a", "b"), deadline=60.0, meta=b'{"a": "b"}', arguments=b'{"one":  1}')
    (record,) = await storage.get([job])

    async def get(caller: Caller, customize: Callable[[Any], Any]) -> None:
        await caller.ask("connect")
        customized = customize(caller.given)
        if customized is not None:
            await customized
        assert await caller.call(storage.get, [job]) == [record]
        await caller.close()

    def psycopgs(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
        connection.row_factory = dict_row  # type: ignore[assignment]
        for name in ("json", "timestamptz", "uuid", "text"):
            connection.adapters.register_loader(name, TextBinaryLoader)

    def psycopg2s(connection: Any) -> None:
        connection.cursor_factory = psycopg2.extras.RealDictCursor
        psycopg2.extras.register_uuid(conn_or_curs=connection)

    async def asyncpgs(connection: asyncpg.Connection) -> None:
        await connection.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=UUID, format="text")

    await get(Psycopg(postgres_dsn), psycopgs)
    await get(AsyncPsycopg(postgres_dsn), psycopgs)
    await get(Psycopg2(postgres_dsn), psycopg2s)
    await get(Asyncpg(postgres_dsn), asyncpgs)


async def test_json_that_asyncpg_decodes_is_read(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    job = await add_job(storage, arguments=b'{"one":1}')
    caller = Asyncpg(postgres_dsn)
    await caller.connect()
    await caller.given.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    assert await caller.call(storage.get, [job]) == await storage.get([job])
    await caller.close()


@pytest.mark.parametrize("name", ["psycopg", "psycopg2", "asyncpg", "SQLAlchemy AsyncConnection on asyncpg", *DJANGO])
async def test_outside_of_a_transaction_each_call_is_one(
    storage: PostgresQueueStorage, postgres_dsn: str, name: str
) -> None:
    caller = CALLERS[name](postgres_dsn, autocommit=True)
    await caller.ask("connect")
    job, twin = new_job(unique_key="k"), new_job(unique_key="k")
    assert [added.created for added in await caller.call(storage.add, [job, twin])] == [True, False]
    assert await state_of(storage, job.id) is JobState.PENDING
    await caller.call(storage.abort, [job.id])
    assert await state_of(storage, job.id) is JobState.ABORTED
    await caller.call(storage.retry, [job.id])
    assert await state_of(storage, job.id) is JobState.PENDING
    await caller.close()


async def test_a_key_that_another_transaction_holds_leaves_the_callers_transaction_usable(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    kinds = (Psycopg, Psycopg2, Asyncpg)
    jobs = [await add_job(storage, unique_key=kind.__name__) for kind in kinds]
    await storage.abort(jobs)

    async def ask(caller: Caller, job: UUID) -> None:
        await caller.ask("connect")
        await caller.ask("begin")
        with pytest.raises(UniqueKeyBusyError):
            await caller.call(storage.retry, [job])
        assert await caller.call(storage.get, [job]) == await storage.get([job])
        await caller.ask("commit")
        await caller.close()

    async with await psycopg.AsyncConnection.connect(postgres_dsn) as holder:
        await storage.add([new_job(unique_key=kind.__name__) for kind in kinds], connection=holder)
        await asyncio.gather(*[ask(kind(postgres_dsn), job) for kind, job in zip(kinds, jobs, strict=True)])


async def test_retry_leaves_the_callers_lock_timeout_alone(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    job = await add_job(storage)
    await storage.abort([job])
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        await connection.execute("SET lock_timeout = '7s'")
        await storage.retry([job], connection=connection)
        assert await (await connection.execute("SHOW lock_timeout")).fetchone() == ("7s",)


@pytest.mark.parametrize("caller", SYNC, indirect=True)
async def test_a_connection_that_blocks_is_refused_on_an_event_loop(
    storage: PostgresQueueStorage, caller: Caller
) -> None:
    name = type(caller.given).__name__
    for operation in (storage.abort, storage.retry, storage.get):
        with pytest.raises(
            ConfigurationError, match=rf"takes a psycopg\.AsyncConn.*AsyncSession.*{name}.*SyncJobQueue"
        ):
            await operation([new_id()], connection=caller.given)


@pytest.mark.parametrize("caller", ASYNC, indirect=True)
async def test_a_connection_of_an_event_loop_is_refused_in_a_thread(
    storage: PostgresQueueStorage, caller: Caller
) -> None:
    thread = SyncCaller(caller.url)
    thread.given = caller.given
    name = type(caller.given).__name__
    with pytest.raises(
        ConfigurationError, match=rf"takes a psycopg\.Connection.*Django.*{name}.*, which belongs to an event loop"
    ):
        await thread.call(storage.add, [new_job()])
    thread.end()


@pytest.mark.parametrize("name", [*DRIVERS, "SQLAlchemy Connection on psycopg"])
async def test_a_closed_connection_is_refused(storage: PostgresQueueStorage, postgres_dsn: str, name: str) -> None:
    caller = CALLERS[name](postgres_dsn)
    await caller.ask("connect")
    await caller.ask("disconnect")
    with pytest.raises(ConfigurationError, match="is closed"):
        await caller.call(storage.add, [new_job()])
    await caller.close()


@pytest.fixture(scope="module")
def other_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """Another database, without tables."""
    dsn = request.getfixturevalue("postgres_server").dsn
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE another")
        yield dsn.replace("/postgres?", "/another?")
        connection.execute("DROP DATABASE another WITH (FORCE)")


@pytest.mark.parametrize("name", [*DRIVERS, *DJANGO])
async def test_another_database_is_refused(storage: PostgresQueueStorage, other_dsn: str, name: str) -> None:
    caller = CALLERS[name](other_dsn)
    await caller.ask("connect")
    await caller.ask("begin")
    with pytest.raises(ConfigurationError, match="another database"):
        await caller.call(storage.add, [new_job()])
    await caller.ask("execute", "SELECT 1")  # the transaction goes on
    await caller.ask("rollback")
    await caller.close()
