"""Adding jobs from threads, over connections that need no event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg
import pytest
import pytest_asyncio

from jobq_core.errors import StorageUnavailableError
from jobq_core.states import JobState
from jobq_core.storage import Added, queue_topic
from jobq_core.testing import new_job
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.sync_producer import PostgresSyncProducer


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
        await storage.add([new_job()])  # so that the line of the queue is known
        yield storage


@pytest_asyncio.fixture
async def producer(storage: PostgresQueueStorage) -> AsyncIterator[PostgresSyncProducer]:
    producer = storage.sync_producer()
    assert producer is not None
    yield producer
    producer.close()


async def test_jobs_of_known_lines_are_added(storage: PostgresQueueStorage, producer: PostgresSyncProducer) -> None:
    now = datetime.now(UTC)
    for group in ([new_job()], [new_job(), new_job()], [new_job(run_at=60.0), new_job(tags=("a",), deadline=now)]):
        assert producer.add(group, timeout=20) == [Added(job.id, True) for job in group]
    counts = (await storage.counts())["default"]
    assert (counts[JobState.PENDING], counts[JobState.SCHEDULED]) == (5, 1)
    assert len(producer._sessions) <= 2


async def test_jobs_with_unique_keys_and_of_unknown_lines_are_left_to_the_storage(
    storage: PostgresQueueStorage, producer: PostgresSyncProducer
) -> None:
    assert producer.add([new_job(), new_job(unique_key="one")], timeout=20) is None
    other = new_job(queue="other", priority=3)
    assert producer.add([other], timeout=20) is None
    assert producer._sessions == []
    await storage.add([other])
    (added,) = producer.add([new_job(queue="other", priority=3)], timeout=20) or []
    assert added.created


async def test_after_an_error_the_storage_answers_for_the_same_job(
    storage: PostgresQueueStorage, producer: PostgresSyncProducer
) -> None:
    job = new_job()
    assert producer.add([job], timeout=20) == [Added(job.id, True)]
    with pytest.raises(StorageUnavailableError):
        producer.add([job], timeout=20)  # its connection is closed by the error that it is stored already
    assert await storage.add([job]) == [Added(job.id, False)]
    assert producer.add([new_job()], timeout=20) is not None


async def test_adds_wake_the_subscriptions_of_other_processes(
    storage: PostgresQueueStorage, producer: PostgresSyncProducer, postgres_dsn: str
) -> None:
    async with PostgresQueueStorage(postgres_dsn, schema=storage.schema) as other:
        async with other.subscribe([queue_topic("default")]) as subscription:
            for _ in range(100):
                await asyncio.to_thread(producer.add, [new_job()], timeout=20)
                # Each add is announced after its commit, at once or within milliseconds; the poll comes after minutes.
                assert await subscription.wait(20) == {queue_topic("default")}


async def test_a_connection_that_was_lost_is_replaced(
    storage: PostgresQueueStorage, producer: PostgresSyncProducer, postgres_dsn: str
) -> None:
    assert producer.add([new_job()], timeout=20)
    lost = storage._engine.pool.lost
    pids = [session._pgconn.backend_pid for session in producer._sessions]
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        for pid in pids:
            await connection.execute("SELECT pg_terminate_backend(%s, 20000)", [pid])
    assert producer.add([new_job()], timeout=20) is None, "another server may answer, which lacks the line"
    await storage.add([new_job()])
    assert producer.add([new_job()], timeout=20)
    assert storage._engine.pool.lost > lost


async def test_a_server_that_does_not_answer_ends_the_add_at_its_timeout(
    storage: PostgresQueueStorage, producer: PostgresSyncProducer, postgres_dsn: str
) -> None:
    assert producer.add([new_job()], timeout=20)
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        await connection.execute(f"LOCK TABLE {storage.schema}.job")  # type: ignore[arg-type]
        with pytest.raises(StorageUnavailableError, match="did not answer within the time limit"):
            producer.add([new_job()], timeout=0.1)


async def test_behind_a_pooler_all_jobs_are_left_to_the_storage(postgres_dsn: str, empty_schema: str) -> None:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema, prepared=False) as storage:
        await storage.add([new_job()])
        producer = storage.sync_producer()
        assert producer is not None
        for _ in range(2):
            assert producer.add([new_job()], timeout=20) is None
        assert producer._sessions == []
        producer.close()


async def test_without_poll_connections_are_checked_all_the_same(
    postgres_dsn: str, empty_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
        monkeypatch.delattr("select.poll")
        jobs = [new_job(), new_job()]
        for job in jobs:
            assert await storage.add([job]) == [Added(job.id, True)]
        assert storage.sync_producer() is None
