"""Operations in a transaction of the application's, with each driver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import psycopg
import psycopg2.extras
import pytest
import pytest_asyncio
from psycopg.rows import dict_row
from psycopg.types.string import TextBinaryLoader

from jobq_core.errors import ConfigurationError, LeaseLostError, UniqueKeyBusyError
from jobq_core.ids import new_id
from jobq_core.records import Progress
from jobq_core.states import Ending, JobState
from jobq_core.storage import FINISHED_TOPIC, Settlement, queue_topic
from jobq_core.testing import ERROR, add_job, new_job, register_worker, settle, start_one, state_of
from jobq_storage_postgres import PostgresQueueStorage

from .callers import (
    CALLERS,
    MORE,
    Asyncpg,
    AsyncpgPool,
    AsyncPsycopg,
    Caller,
    Django,
    Psycopg,
    Psycopg2,
    SqlalchemyAsyncConnection,
    SqlalchemyAsyncSession,
    SqlalchemyConnection,
    SqlalchemySession,
    SyncCaller,
)

TOPIC = queue_topic("default")


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
        yield storage


@pytest_asyncio.fixture(params=CALLERS, ids=lambda kind: kind.__name__)
async def caller(request: pytest.FixtureRequest, postgres_dsn: str) -> AsyncIterator[Caller]:
    caller: Caller = request.param(postgres_dsn)
    await caller.ask("connect")
    yield caller
    await caller.close()


@pytest.mark.parametrize("caller", [*CALLERS, *MORE], ids=lambda kind: kind.__name__, indirect=True)
async def test_jobs_exist_once_the_callers_transaction_commits(storage: PostgresQueueStorage, caller: Caller) -> None:
    job, twin = new_job(unique_key="k", tags=("a", 'b"\\,'), run_id="ru'n %s"), new_job(unique_key="k")
    await caller.ask("begin")
    async with storage.subscribe([TOPIC]) as subscription:
        first, second = await caller.call(storage.add, [job, twin])
        assert (first.id, first.created, second.id, second.created) == (job.id, True, job.id, False)
        (inside,) = await caller.call(storage.get, [job.id])
        assert await storage.get([job.id]) == [None]
        assert await subscription.wait(0) == frozenset()
        await caller.ask("commit")
        assert await subscription.wait(20) == {TOPIC}
    assert await storage.get([job.id, twin.id]) == [inside, None]
    assert inside is not None
    assert (inside.tags, inside.run_id, inside.arguments_json) == (job.tags, job.run_id, job.arguments)


async def test_jobs_of_a_transaction_that_is_rolled_back_never_existed(
    storage: PostgresQueueStorage, caller: Caller
) -> None:
    job = new_job(unique_key="k")
    await caller.ask("begin")
    await caller.call(storage.add, [job, new_job(run_at=60.0, timeout=1.5, fingerprint=b"\\'\0%")])
    await caller.ask("rollback")
    assert await state_of(storage, job.id) is None
    assert (await storage.add([new_job(unique_key="k")]))[0].created


async def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along(
    storage: PostgresQueueStorage, caller: Caller
) -> None:
    outer, undone, kept = new_job(unique_key="k"), new_job(unique_key="l"), new_job()
    await caller.ask("begin")
    await caller.call(storage.add, [outer])
    await caller.ask("nest")
    await caller.call(storage.add, [undone])
    await caller.ask("end_nested", False)
    await caller.ask("nest")
    await caller.call(storage.add, [kept])
    await caller.ask("end_nested", True)
    await caller.ask("commit")
    states = [await state_of(storage, job.id) for job in (outer, undone, kept)]
    assert states == [JobState.PENDING, None, JobState.PENDING]


async def test_jobs_are_aborted_and_retried_when_the_caller_commits(
    storage: PostgresQueueStorage, caller: Caller
) -> None:
    job = await add_job(storage, unique_key="k")
    await caller.ask("begin")
    await caller.call(storage.abort, [job])
    await caller.ask("rollback")
    assert await state_of(storage, job) is JobState.PENDING
    await caller.ask("begin")
    (change,) = await caller.call(storage.abort, [job])
    assert (change.before, change.after) == (JobState.PENDING, JobState.ABORTED)
    (change,) = await caller.call(storage.retry, [job])
    assert (change.before, change.after) == (JobState.ABORTED, JobState.PENDING)
    (change,) = await caller.call(storage.abort, [job])
    assert await state_of(storage, job) is JobState.PENDING
    await caller.ask("commit")
    assert await state_of(storage, job) is JobState.ABORTED


async def test_a_run_completes_with_its_jobs_when_its_handler_commits(
    storage: PostgresQueueStorage, caller: Caller
) -> None:
    worker = await register_worker(storage, queues=("default",))
    job = await add_job(storage)
    run = await start_one(storage, worker)
    child = new_job(unique_key="k", queue="children")
    settlement = Settlement(job, run.lease, Ending.COMPLETE, b"7", progress=Progress(percent=50.0), jobs=(child,))
    await caller.ask("begin")
    await caller.call(partial(storage.complete, settlement))
    assert await state_of(storage, job) is JobState.PROCESSING
    await caller.ask("rollback")
    assert await state_of(storage, job) is JobState.PROCESSING
    await caller.ask("begin")
    async with storage.subscribe([FINISHED_TOPIC]) as subscription:
        await caller.call(partial(storage.complete, settlement))
        assert await state_of(storage, job) is JobState.PROCESSING
        await caller.ask("commit")
        assert await subscription.wait(20) == {FINISHED_TOPIC}
    record, added = await storage.get([job, child.id])
    assert record is not None
    assert added is not None
    assert (record.state, record.result_json, record.progress.percent) == (JobState.COMPLETED, b"7", 50.0)
    assert await settle(storage, worker, run, Ending.RETRY, error=ERROR) is JobState.COMPLETED
    await caller.ask("begin")
    with pytest.raises(LeaseLostError):
        await caller.call(partial(storage.complete, settlement))
    await caller.ask("rollback")


async def test_a_caller_whose_snapshot_is_too_old_gets_its_own_error_and_can_repeat_the_transaction(
    storage: PostgresQueueStorage, caller: Caller
) -> None:
    for level in ("REPEATABLE READ", "SERIALIZABLE"):
        job = await add_job(storage)
        await caller.ask("begin")
        await caller.ask("execute", f"SET TRANSACTION ISOLATION LEVEL {level}")
        await caller.ask("execute", "SELECT 1")
        await storage.abort([job])
        with pytest.raises(caller.retryable):
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


@pytest.mark.parametrize("kind", [Psycopg, Psycopg2, Asyncpg, SqlalchemyAsyncConnection, Django])
async def test_outside_of_a_transaction_each_call_is_one(
    storage: PostgresQueueStorage, postgres_dsn: str, kind: type[Caller]
) -> None:
    caller = kind(postgres_dsn, autocommit=True)
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


@pytest.mark.parametrize("kind", [Psycopg, Psycopg2, SqlalchemyConnection, SqlalchemySession, Django])
async def test_a_connection_that_blocks_is_refused_on_an_event_loop(
    storage: PostgresQueueStorage, postgres_dsn: str, kind: type[Caller]
) -> None:
    caller = kind(postgres_dsn)
    await caller.ask("connect")
    name = type(caller.given).__name__
    for operation in (storage.abort, storage.retry, storage.get):
        with pytest.raises(
            ConfigurationError, match=rf"takes a psycopg\.AsyncConn.*AsyncSession.*{name}.*SyncJobQueue"
        ):
            await operation([new_id()], connection=caller.given)
    await caller.close()


@pytest.mark.parametrize("kind", [AsyncPsycopg, Asyncpg, SqlalchemyAsyncConnection, SqlalchemyAsyncSession])
async def test_a_connection_of_an_event_loop_is_refused_in_a_thread(
    storage: PostgresQueueStorage, postgres_dsn: str, kind: type[Caller]
) -> None:
    thread, caller = SyncCaller(postgres_dsn), kind(postgres_dsn)
    await caller.ask("connect")
    thread.given = caller.given
    name = type(caller.given).__name__
    with pytest.raises(
        ConfigurationError, match=rf"takes a psycopg\.Connection.*Django.*{name}.*, which belongs to an event loop"
    ):
        await thread.call(storage.add, [new_job()])
    await caller.close()
    thread.end()


@pytest.mark.parametrize("kind", [Psycopg, AsyncPsycopg, Psycopg2, Asyncpg, AsyncpgPool, SqlalchemyConnection])
async def test_a_closed_connection_is_refused(
    storage: PostgresQueueStorage, postgres_dsn: str, kind: type[Caller]
) -> None:
    caller = kind(postgres_dsn)
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


@pytest.mark.parametrize("kind", [Psycopg, AsyncPsycopg, Psycopg2, Asyncpg, AsyncpgPool, Django])
async def test_another_database_is_refused(storage: PostgresQueueStorage, other_dsn: str, kind: type[Caller]) -> None:
    caller = kind(other_dsn)
    await caller.ask("connect")
    await caller.ask("begin")
    with pytest.raises(ConfigurationError, match="another database"):
        await caller.call(storage.add, [new_job()])
    await caller.ask("execute", "SELECT 1")  # the transaction goes on
    await caller.ask("rollback")
    await caller.close()
