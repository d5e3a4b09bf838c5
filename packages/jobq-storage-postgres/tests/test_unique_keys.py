"""Unique keys that an open transaction holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from jobq_core.errors import UniqueKeyBusyError
from jobq_core.states import Ending, JobState
from jobq_core.storage import Added
from jobq_core.testing import ERROR, add_job, new_job, register_worker, settle, start_one
from jobq_storage_postgres import PostgresQueueStorage


@pytest_asyncio.fixture(params=[None, False], ids=["direct", "pooled"])
async def storage(
    postgres_dsn: str, empty_schema: str, request: pytest.FixtureRequest
) -> AsyncIterator[PostgresQueueStorage]:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema, prepared=request.param) as storage:
        yield storage


@pytest_asyncio.fixture
async def holder(postgres_dsn: str, storage: PostgresQueueStorage) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """The transaction of another program that holds the keys 'b' and 'd' of the default queue."""
    async with await psycopg.AsyncConnection.connect(postgres_dsn, application_name="web shop") as connection:
        await storage.add([new_job(unique_key="b"), new_job(unique_key="d")], connection=connection)
        yield connection
        await connection.rollback()


async def pending(storage: PostgresQueueStorage) -> int:
    return (await storage.counts("default"))["default"][JobState.PENDING]


async def test_a_key_that_an_open_transaction_holds_is_busy_and_its_holder_is_named(
    storage: PostgresQueueStorage, holder: psycopg.AsyncConnection[Any]
) -> None:
    jobs = [new_job(unique_key=key) for key in ("a", "b", "c")]
    with pytest.raises(UniqueKeyBusyError) as caught:
        await storage.add([*jobs, new_job()])
    said = str(caught.value)
    assert "unique key 'b' of queue 'default'" in said
    assert f"process {holder.info.backend_pid}, application 'web shop', open for " in said
    assert await pending(storage) == 0, "none of the jobs is stored"
    # What it had taken is free, and the others are not hindered.
    assert [added.created for added in await storage.add([jobs[0], jobs[2], new_job()])] == [True] * 3


async def test_a_lone_job_is_told_who_holds_its_key(
    storage: PostgresQueueStorage, holder: psycopg.AsyncConnection[Any]
) -> None:
    job = new_job(unique_key="b")
    with pytest.raises(UniqueKeyBusyError, match=f"process {holder.info.backend_pid}"):
        await storage.add([job])
    await holder.rollback()
    assert (await storage.add([job]))[0].created


async def test_others_add_while_one_waits_for_a_busy_key(
    storage: PostgresQueueStorage, holder: psycopg.AsyncConnection[Any]
) -> None:
    waiting = asyncio.create_task(storage.add([new_job(unique_key="a"), new_job(unique_key="b")]))
    for _ in range(5):
        assert (await storage.add([new_job(unique_key="z")]))[0] is not None
        await storage.add([new_job()])
    assert not waiting.done()
    with pytest.raises(UniqueKeyBusyError):
        await waiting


@pytest.mark.parametrize("commits", [True, False])
async def test_a_holder_that_ends_within_a_second_is_waited_for(
    storage: PostgresQueueStorage,
    holder: psycopg.AsyncConnection[Any],
    postgres_dsn: str,
    commits: bool,
) -> None:
    waiting = asyncio.create_task(storage.add([new_job(unique_key="d"), new_job(unique_key="e")]))
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        waits = "SELECT FROM pg_stat_activity WHERE wait_event = 'transactionid'"
        while not waiting.done() and (await (await admin.execute(waits)).fetchone()) is None:
            pass
    await (holder.commit() if commits else holder.rollback())
    assert [added.created for added in await waiting] == [not commits, True]


@pytest.mark.parametrize("autocommit", [True, False])
async def test_the_callers_transaction_goes_on_after_a_busy_key(
    storage: PostgresQueueStorage, holder: psycopg.AsyncConnection[Any], postgres_dsn: str, autocommit: bool
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=autocommit) as connection:
        await connection.execute("SET lock_timeout = '7s'")
        with pytest.raises(UniqueKeyBusyError, match="unique key 'b'"):
            await storage.add([new_job(unique_key="a"), new_job(unique_key="b")], connection=connection)
        assert await (await connection.execute("SHOW lock_timeout")).fetchone() == ("7s",)
        assert (await storage.add([new_job(unique_key="a")], connection=connection))[0].created
        await connection.commit()
    assert await pending(storage) == 1


async def test_a_busy_key_in_a_pipeline_of_the_caller(
    storage: PostgresQueueStorage, holder: psycopg.AsyncConnection[Any], postgres_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection, connection.pipeline():
        with pytest.raises(UniqueKeyBusyError):
            await storage.add([new_job(unique_key="b")], connection=connection)
        assert (await storage.add([new_job(unique_key="c")], connection=connection))[0].created
        await connection.commit()
    assert await pending(storage) == 1


async def test_a_retry_is_told_who_holds_its_key(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    free, held, plain = jobs = [await add_job(storage, unique_key=key) for key in ("a", "b", None)]
    await storage.abort(jobs)
    async with await psycopg.AsyncConnection.connect(postgres_dsn, application_name="web shop") as connection:
        await storage.add([new_job(unique_key="b")], connection=connection)
        with pytest.raises(UniqueKeyBusyError, match="unique key 'b' of queue 'default'; retry") as caught:
            await storage.retry(jobs)
        assert f"process {connection.info.backend_pid}, application 'web shop', open for " in str(caught.value)
        assert (caught.value.queue, caught.value.key) == ("default", "b")
        assert [change.changed for change in await storage.retry([free, plain])] == [True, True]
        await connection.rollback()
    assert [change.changed for change in await storage.retry([held])] == [True]


@pytest.mark.parametrize("unfinished", [True, False])
async def test_a_key_whose_time_is_over_is_free(
    storage: PostgresQueueStorage, postgres_dsn: str, unfinished: bool
) -> None:
    jobs = [await add_job(storage, unique_key=key) for key in "abc"]
    await hold_all(storage, postgres_dsn, "1 day")
    if not unfinished:
        await storage.abort(jobs)
    await hold_all(storage, postgres_dsn, "-1 second")
    new, several = new_job(unique_key="a"), [new_job(unique_key="b"), new_job(unique_key="b"), new_job()]
    assert await storage.add([new]) == [Added(new.id, True)]
    answers = await storage.add(several)
    assert answers == [Added(several[0].id, True), Added(several[0].id, False), Added(several[2].id, True)]
    # The end of an earlier job leaves the key to the one that has it now.
    await storage.abort(jobs)
    assert await storage.add([new_job(unique_key="a")]) == [Added(new.id, False)]


async def test_a_retried_job_takes_a_key_whose_time_is_over(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    first = await add_job(storage, unique_key="a")
    await storage.abort([first])
    await add_job(storage, unique_key="a")
    await hold_all(storage, postgres_dsn, "1 day")
    assert [change.changed for change in await storage.retry([first])] == [False]
    await hold_all(storage, postgres_dsn, "-1 second")
    assert [change.changed for change in await storage.retry([first])] == [True]
    assert await storage.add([new_job(unique_key="a")]) == [Added(first, False)]


async def test_a_key_that_other_code_holds_for_a_time_outlives_its_job(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    worker, lost = await register_worker(storage), await register_worker(storage)
    completed, failed, orphan = [await add_job(storage, unique_key=key, max_attempts=1) for key in ("a", "b", "c")]
    for holder, ending, error in ((worker, Ending.COMPLETE, None), (worker, Ending.FAIL, ERROR), (lost, None, None)):
        job = await start_one(storage, holder)
        await hold_all(storage, postgres_dsn)
        if ending is not None:
            await settle(storage, holder, job, ending, error=error)
    aborted = await add_job(storage, unique_key="d")
    expired = await add_job(storage, unique_key="e", deadline=-1.0)
    await hold_all(storage, postgres_dsn)
    await storage.abort([aborted])
    await storage.expire()
    await storage.deregister(lost.id)
    await storage.rescue()

    ended = [completed, failed, orphan, aborted, expired]
    states = [status.state for status in await storage.get_status(ended) if status]
    assert states == [JobState.COMPLETED, JobState.FAILED, JobState.FAILED, JobState.ABORTED, JobState.FAILED]
    again = await storage.add([new_job(unique_key=key) for key in "abcde"])
    assert [(added.id, added.created) for added in again] == [(job, False) for job in ended]


async def hold_all(storage: PostgresQueueStorage, dsn: str, time: str = "1 day") -> None:
    """Hold all keys for a time from now on, as later code may."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        statement = sql.SQL("UPDATE {}.unique_key SET until = clock_timestamp() + {}::interval")
        await connection.execute(statement.format(sql.Identifier(storage.schema), time))
