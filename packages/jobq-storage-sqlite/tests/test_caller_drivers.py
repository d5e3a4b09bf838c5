"""Operations in a transaction of the application's, with each driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from jobq_core.errors import ConfigurationError, StorageUnavailableError
from jobq_core.ids import new_id
from jobq_core.states import JobState
from jobq_core.testing import add_job, new_job, state_of
from jobq_core.testing.callers import Caller, SyncCaller
from jobq_core.testing.contract.callers import CallersContract
from jobq_storage_sqlite import SqliteQueueStorage

from .callers import ASYNC, CALLERS, SYNC, Django, Sqlite3


@pytest_asyncio.fixture(params=CALLERS)
async def caller(request: pytest.FixtureRequest, storage: SqliteQueueStorage, path: Path) -> AsyncIterator[Caller]:
    caller = CALLERS[request.param](str(path))
    await caller.ask("connect")
    yield caller
    await caller.close()


class TestCallers(CallersContract):
    """Each caller of the table keeps the contract."""


async def test_reading_begins_no_transaction(storage: SqliteQueueStorage, caller: Caller) -> None:
    job = await add_job(storage)
    assert await caller.call(storage.get, [job]) == await storage.get([job])
    assert await state_of(storage, await add_job(storage)) is JobState.PENDING  # nothing is locked


async def test_a_transaction_that_read_before_another_wrote_is_to_be_repeated(
    storage: SqliteQueueStorage, caller: Caller
) -> None:
    await caller.ask("begin")
    if not isinstance(caller, Django):
        await caller.ask("execute", "BEGIN")
    await caller.ask("execute", "SELECT count(*) FROM jobq_job")
    await add_job(storage)
    job = new_job()
    with pytest.raises(StorageUnavailableError, match="BEGIN IMMEDIATE"):
        await caller.call(storage.add, [job])
    await caller.ask("rollback")
    await caller.ask("begin")
    await caller.call(storage.add, [job])
    await caller.ask("commit")
    assert await state_of(storage, job.id) is JobState.PENDING


@pytest.mark.parametrize("caller", ["Django"], indirect=True)
async def test_djangos_autocommit_makes_each_call_a_transaction(storage: SqliteQueueStorage, caller: Caller) -> None:
    job = new_job()
    await caller.call(storage.add, [job])
    assert await state_of(storage, job.id) is JobState.PENDING
    await caller.call(storage.abort, [job.id])
    assert await state_of(storage, job.id) is JobState.ABORTED


@pytest.mark.parametrize("caller", SYNC, indirect=True)
async def test_a_connection_that_blocks_is_refused_on_an_event_loop(
    storage: SqliteQueueStorage, caller: Caller
) -> None:
    name = type(caller.given).__name__
    for operation in (storage.abort, storage.retry, storage.get):
        with pytest.raises(ConfigurationError, match=rf"aiosqlite\.Conn.*AsyncSession.*{name}.*SyncJobQueueClient"):
            await operation([new_id()], connection=caller.given)


@pytest.mark.parametrize("caller", ASYNC, indirect=True)
async def test_a_connection_of_an_event_loop_is_refused_in_a_thread(
    storage: SqliteQueueStorage, caller: Caller
) -> None:
    thread = SyncCaller(caller.url)
    thread.given = caller.given
    with pytest.raises(ConfigurationError, match=r"a sqlite3\.Connection.*Django.*, which belongs to an event loop"):
        await thread.call(storage.add, [new_job()])
    thread.end()


@pytest.mark.parametrize("caller", ["sqlite3", "SQLAlchemy Connection on sqlite3"], indirect=True)
async def test_a_closed_connection_is_refused(storage: SqliteQueueStorage, caller: Caller) -> None:
    await caller.ask("disconnect")
    with pytest.raises(ConfigurationError, match="closed"):
        await caller.call(storage.add, [new_job()])


@pytest.mark.parametrize("name", ["sqlite3", "aiosqlite", "SQLAlchemy Session on sqlite3", "Django"])
async def test_another_file_is_refused(storage: SqliteQueueStorage, tmp_path: Path, name: str) -> None:
    caller = CALLERS[name](str(tmp_path / "other.db"))
    await caller.ask("connect")
    await caller.ask("begin")
    with pytest.raises(ConfigurationError, match="the jobs are in"):
        await caller.call(storage.add, [new_job()])
    await caller.ask("rollback")
    await caller.close()


async def test_a_connection_to_its_own_memory_is_refused(storage: SqliteQueueStorage) -> None:
    caller = Sqlite3(":memory:")
    await caller.ask("connect")
    with pytest.raises(ConfigurationError, match="a database in memory"):
        await caller.call(storage.add, [new_job()])
    await caller.close()
