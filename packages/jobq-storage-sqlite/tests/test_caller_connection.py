"""Adding within the caller's own transaction, on an aiosqlite connection."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from jobq_core.errors import ConfigurationError, StorageError, StorageUnavailableError
from jobq_core.storage import queue_topic
from jobq_core.testing import add_job, new_job, state_of
from jobq_storage_sqlite import SqliteQueueStorage


@pytest.fixture
async def connection(storage: SqliteQueueStorage, path: Path) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(path) as connection:
        await connection.execute("CREATE TABLE shop (id INTEGER PRIMARY KEY)")
        yield connection


async def test_the_job_is_there_when_the_caller_commits(
    storage: SqliteQueueStorage, connection: aiosqlite.Connection
) -> None:
    job = new_job()
    await connection.execute("INSERT INTO shop VALUES (1)")
    assert [added.created for added in await storage.add([job], connection=connection)] == [True]
    assert await state_of(storage, job.id) is None
    await connection.commit()
    assert await state_of(storage, job.id) == "pending"


async def test_the_job_never_was_when_the_caller_rolls_back(
    storage: SqliteQueueStorage, connection: aiosqlite.Connection
) -> None:
    job = new_job(unique_key="a")
    await connection.execute("INSERT INTO shop VALUES (1)")
    await storage.add([job], connection=connection)
    await connection.rollback()
    assert await state_of(storage, job.id) is None
    assert (await storage.add([new_job(unique_key="a")]))[0].created
    assert await (await connection.execute("SELECT count(*) FROM shop")).fetchone() == (0,)


async def test_it_begins_the_transaction_where_the_caller_made_no_change_yet(
    storage: SqliteQueueStorage, connection: aiosqlite.Connection
) -> None:
    job = new_job()
    await storage.add([job], connection=connection)
    assert connection.in_transaction
    await connection.rollback()
    assert await state_of(storage, job.id) is None


async def test_a_connection_that_commits_each_statement_must_have_begun(
    storage: SqliteQueueStorage, path: Path
) -> None:
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        with pytest.raises(ConfigurationError, match="BEGIN IMMEDIATE"):
            await storage.add([new_job()], connection=connection)
        await connection.execute("BEGIN IMMEDIATE")
        job = new_job()
        await storage.add([job], connection=connection)
        await connection.execute("COMMIT")
    assert await state_of(storage, job.id) == "pending"


async def test_the_topic_is_notified_at_the_commit(
    storage: SqliteQueueStorage, connection: aiosqlite.Connection
) -> None:
    async with storage.subscribe([queue_topic("default")]) as subscription:
        await storage.add([new_job()], connection=connection)
        assert await subscription.wait(0.05) == frozenset()
        await connection.commit()
        assert await subscription.wait(30) == {queue_topic("default")}


async def test_numbers_go_on_where_the_callers_transaction_left_them(
    storage: SqliteQueueStorage, connection: aiosqlite.Connection
) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(await add_job(storage))
        job = new_job()
        await storage.add([job], connection=connection)
        await connection.commit()
        jobs.append(job.id)
    assert None not in await storage.get_status(jobs)


async def test_a_batch_that_fails_undoes_itself_and_not_the_callers_work(
    storage: SqliteQueueStorage, connection: aiosqlite.Connection
) -> None:
    await connection.execute("INSERT INTO shop VALUES (1)")
    jobs = [new_job(), new_job(priority=2**70)]
    with pytest.raises(StorageError, match="too large"):
        await storage.add(jobs, connection=connection)
    await connection.commit()
    assert await storage.get_status([job.id for job in jobs]) == [None, None]
    assert await (await connection.execute("SELECT count(*) FROM shop")).fetchone() == (1,)


async def test_a_cancelled_caller_finds_all_of_the_batch_in_the_transaction_or_nothing(
    storage: SqliteQueueStorage, connection: aiosqlite.Connection
) -> None:
    jobs = [new_job() for _ in range(200)]
    adding = asyncio.create_task(storage.add(jobs, connection=connection))
    await asyncio.sleep(0)
    adding.cancel()
    await asyncio.gather(adding, return_exceptions=True)
    await connection.commit()
    assert {status is None for status in await storage.get_status([job.id for job in jobs])} in ({True}, {False})


async def test_the_callers_own_factories_are_left_as_they_are(
    storage: SqliteQueueStorage, connection: aiosqlite.Connection
) -> None:
    connection.row_factory = sqlite3.Row
    connection.text_factory = bytes
    held = new_job(unique_key="a")
    await storage.add([held], connection=connection)
    [again] = await storage.add([new_job(unique_key="a")], connection=connection)
    assert (again.id, again.created) == (held.id, False)
    assert connection.text_factory is bytes
    assert connection.row_factory is sqlite3.Row


async def test_another_file_is_refused(storage: SqliteQueueStorage, tmp_path: Path) -> None:
    for other in (":memory:", tmp_path / "other.db"):
        async with aiosqlite.connect(other) as connection:
            with pytest.raises(ConfigurationError, match="the jobs are in"):
                await storage.add([new_job()], connection=connection)


async def test_the_same_file_by_another_name_is_taken(storage: SqliteQueueStorage, path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)
    async with aiosqlite.connect(tmp_path / "link.db") as connection:
        job = new_job()
        await storage.add([job], connection=connection)
        await connection.commit()
    assert await state_of(storage, job.id) == "pending"


@pytest.mark.parametrize("connection", [sqlite3.connect(":memory:", check_same_thread=False), object(), "sqlite:///x"])
async def test_other_kinds_of_connections_are_refused(storage: SqliteQueueStorage, connection: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"aiosqlite\.Connection"):
        await storage.add([new_job()], connection=connection)


async def test_a_closed_connection_is_refused(storage: SqliteQueueStorage, path: Path) -> None:
    async with aiosqlite.connect(path) as connection:
        pass
    with pytest.raises(ConfigurationError, match="is closed"):
        await storage.add([new_job()], connection=connection)


async def test_a_lock_that_the_caller_cannot_have_is_unavailable(storage: SqliteQueueStorage, path: Path) -> None:
    async with aiosqlite.connect(path) as holder, aiosqlite.connect(path, timeout=0.05) as connection:
        await holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailableError):
            await storage.add([new_job()], connection=connection)


async def test_a_file_without_tables_gives_a_storage_error(storage: SqliteQueueStorage, path: Path) -> None:
    async with aiosqlite.connect(path) as connection:
        await connection.execute("DROP TABLE jobq_job")
        await connection.commit()
        with pytest.raises(StorageError, match="no such table"):
            await storage.add([new_job()], connection=connection)
