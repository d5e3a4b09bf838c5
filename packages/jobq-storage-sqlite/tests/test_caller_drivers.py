"""Operations in a transaction of the application's, with each driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from jobq_core.errors import ConfigurationError, LeaseLostError, StorageUnavailableError
from jobq_core.ids import new_id
from jobq_core.records import Progress
from jobq_core.states import Ending, JobState
from jobq_core.storage import FINISHED_TOPIC, Settlement, queue_topic
from jobq_core.testing import ERROR, add_job, new_job, register_worker, settle, start_one, state_of
from jobq_storage_sqlite import SqliteQueueStorage

from .callers import (
    CALLERS,
    Aiosqlite,
    Caller,
    Django,
    SqlalchemyAsyncConnection,
    SqlalchemyAsyncSession,
    SqlalchemyConnection,
    SqlalchemySession,
    Sqlite3,
    SyncCaller,
)

TOPIC = queue_topic("default")


@pytest.fixture(params=CALLERS, ids=lambda kind: kind.__name__)
async def caller(request: pytest.FixtureRequest, storage: SqliteQueueStorage, path: Path) -> AsyncIterator[Caller]:
    caller: Caller = request.param(path)
    await caller.ask("connect")
    yield caller
    await caller.close()


async def test_jobs_exist_once_the_callers_transaction_commits(storage: SqliteQueueStorage, caller: Caller) -> None:
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
    storage: SqliteQueueStorage, caller: Caller
) -> None:
    job = new_job(unique_key="k")
    await caller.ask("begin")
    await caller.call(storage.add, [job, new_job(run_at=60.0)])
    await caller.ask("rollback")
    assert await state_of(storage, job.id) is None
    assert (await storage.add([new_job(unique_key="k")]))[0].created


async def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along(
    storage: SqliteQueueStorage, caller: Caller
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
    storage: SqliteQueueStorage, caller: Caller
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
    assert (await storage.counts("default"))["default"][JobState.ABORTED] == 1


async def test_a_run_completes_with_its_jobs_when_its_handler_commits(
    storage: SqliteQueueStorage, caller: Caller
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


@pytest.mark.parametrize("kind", [Sqlite3, Aiosqlite, SqlalchemyConnection, Django])
async def test_reading_begins_no_transaction(storage: SqliteQueueStorage, path: Path, kind: type[Caller]) -> None:
    caller = kind(path)
    await caller.ask("connect")
    job = await add_job(storage)
    assert await caller.call(storage.get, [job]) == await storage.get([job])
    assert await state_of(storage, await add_job(storage)) is JobState.PENDING  # nothing is locked
    await caller.close()


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


async def test_djangos_autocommit_makes_each_call_a_transaction(storage: SqliteQueueStorage, path: Path) -> None:
    caller = Django(path)
    await caller.ask("connect")
    job = new_job()
    await caller.call(storage.add, [job])
    assert await state_of(storage, job.id) is JobState.PENDING
    await caller.call(storage.abort, [job.id])
    assert await state_of(storage, job.id) is JobState.ABORTED
    await caller.close()


@pytest.mark.parametrize("kind", [Sqlite3, SqlalchemyConnection, SqlalchemySession, Django])
async def test_a_connection_that_blocks_is_refused_on_an_event_loop(
    storage: SqliteQueueStorage, path: Path, kind: type[Caller]
) -> None:
    caller = kind(path)
    await caller.ask("connect")
    name = type(caller.given).__name__
    for operation in (storage.abort, storage.retry, storage.get):
        with pytest.raises(ConfigurationError, match=rf"aiosqlite\.Conn.*AsyncSession.*{name}.*SyncJobQueueClient"):
            await operation([new_id()], connection=caller.given)
    await caller.close()


@pytest.mark.parametrize("kind", [Aiosqlite, SqlalchemyAsyncConnection, SqlalchemyAsyncSession])
async def test_a_connection_of_an_event_loop_is_refused_in_a_thread(
    storage: SqliteQueueStorage, path: Path, kind: type[Caller]
) -> None:
    thread, caller = SyncCaller(path), kind(path)
    await caller.ask("connect")
    thread.given = caller.given
    with pytest.raises(ConfigurationError, match=r"a sqlite3\.Connection.*Django.*, which belongs to an event loop"):
        await thread.call(storage.add, [new_job()])
    await caller.close()
    thread.end()


@pytest.mark.parametrize("kind", [Sqlite3, SqlalchemyConnection])
async def test_a_closed_connection_is_refused(storage: SqliteQueueStorage, path: Path, kind: type[Caller]) -> None:
    caller = kind(path)
    await caller.ask("connect")
    await caller.ask("disconnect")
    with pytest.raises(ConfigurationError, match="closed"):
        await caller.call(storage.add, [new_job()])
    await caller.close()


@pytest.mark.parametrize("kind", [Sqlite3, Aiosqlite, SqlalchemySession, Django])
async def test_another_file_is_refused(storage: SqliteQueueStorage, tmp_path: Path, kind: type[Caller]) -> None:
    caller = kind(tmp_path / "other.db")
    await caller.ask("connect")
    await caller.ask("begin")
    with pytest.raises(ConfigurationError, match="the jobs are in"):
        await caller.call(storage.add, [new_job()])
    await caller.ask("rollback")
    await caller.close()


async def test_a_connection_to_its_own_memory_is_refused(storage: SqliteQueueStorage) -> None:
    caller = Sqlite3(Path(":memory:"))
    await caller.ask("connect")
    with pytest.raises(ConfigurationError, match="a database in memory"):
        await caller.call(storage.add, [new_job()])
    await caller.close()
