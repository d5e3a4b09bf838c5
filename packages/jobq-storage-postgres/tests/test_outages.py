"""Connections that die, servers that go away, callers that are cancelled: nothing is left behind, and work goes on."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from jobq_core.errors import StorageError, StorageReadOnlyError, StorageUnavailableError
from jobq_core.records import WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, QueueOptions, Retention, Settlement, queue_topic
from jobq_core.testing import new_job, register_worker, worker_info
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.protocol import Statement
from jobq_storage_postgres.testing import ThrowawayPostgres


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    # The application's name tells these connections from everybody else's.
    storage = PostgresQueueStorage(f"{postgres_dsn}&application_name={postgres_schema}", schema=postgres_schema)
    await storage.migrate()
    async with storage:
        yield storage


@pytest_asyncio.fixture
async def admin(postgres_dsn: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def own_server() -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres() as server:
        yield server


async def rows(connection: psycopg.AsyncConnection[Any], query: str, *params: object) -> list[Any]:
    return await (await connection.execute(query, params)).fetchall()


async def until(connection: psycopg.AsyncConnection[Any], query: str, *params: object) -> None:
    """Ask until the answer has a row."""
    async with asyncio.timeout(20):
        while not await rows(connection, query, *params):  # noqa: ASYNC110 (the event is in the server)
            await asyncio.sleep(0.005)


WAITS_FOR_LOCK = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
OPEN_TRANSACTION = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND state LIKE 'idle in transaction%%'"
TERMINATE = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s"


async def test_a_connection_that_died_while_idle_is_replaced_unnoticed(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any]
) -> None:
    for _ in range(3):
        assert all(done for (done,) in await rows(admin, TERMINATE, storage.schema))
        (added,) = await storage.add([new_job()])
        assert added.created


async def test_a_connection_that_dies_during_a_call_is_an_outage_and_the_next_call_works(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any], postgres_dsn: str
) -> None:
    job = new_job()
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as other:
        await other.execute(f"LOCK TABLE {storage.schema}.ready".encode())
        adding = asyncio.create_task(storage.add([job]))
        await until(admin, WAITS_FOR_LOCK, storage.schema)
        await rows(admin, TERMINATE, storage.schema)
        with pytest.raises(StorageUnavailableError):
            await adding
    assert [added.created for added in await storage.add([job])] == [True]
    assert [added.created for added in await storage.add([job])] == [False]


async def test_a_call_past_its_time_limit_is_an_outage_and_leaves_no_transaction(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any], postgres_dsn: str
) -> None:
    dsn = f"{postgres_dsn}&application_name={storage.schema}-short"
    async with PostgresQueueStorage(dsn, schema=storage.schema, time_limit=0.3, pool_size=1) as short:
        for job in (new_job(), new_job(unique_key="k")):
            await short.delete([added.id for added in await short.add([job])])  # so that all is prepared
        # Long enough that it is our own limit that ends the waiting, and not the server's of the same length.
        connection = await short._engine.pool.acquire()
        await connection.fetch([(Statement("longer", "SET statement_timeout = '10s'"), ())])
        await connection.fetch([(Statement("patient", "SET lock_timeout = 0"), ())])
        short._engine.pool.release(connection)
        async with await psycopg.AsyncConnection.connect(postgres_dsn) as other:
            await other.execute(f"LOCK TABLE {storage.schema}.ready, {storage.schema}.outcome".encode())
            with pytest.raises(StorageUnavailableError):
                await short.add([new_job()])
            assert connection.closed, "a connection that owes an answer is closed"
            with pytest.raises(StorageUnavailableError):
                await short.abort([new_job().id])
            await other.rollback()
        name = f"{storage.schema}-short"
        await until(admin, "SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s "
                    "AND state <> 'idle')", name)  # fmt: skip
        assert (await storage.counts("default"))["default"][JobState.PENDING] <= 1, "it may still take effect"
        assert len(await short.add([new_job()])) == 1


@pytest.mark.parametrize("operation", ["add", "add unique", "settle_and_claim", "abort", "delete"])
async def test_a_cancelled_caller_leaves_no_transaction_open(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any], postgres_dsn: str, operation: str
) -> None:
    worker = (await register_worker(storage)).id
    (added,) = await storage.add([new_job()])
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "add": lambda: storage.add([new_job()]),
        "add unique": lambda: storage.add([new_job(unique_key="k")]),
        "settle_and_claim": lambda: storage.settle_and_claim(worker, claim=Claim.of("default", limit=1)),
        "abort": lambda: storage.abort([added.id]),
        "delete": lambda: storage.delete([added.id]),
    }
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as other:
        await other.execute(f"LOCK TABLE {storage.schema}.ready".encode())
        task = asyncio.ensure_future(calls[operation]())
        await until(admin, WAITS_FOR_LOCK, storage.schema)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(admin, "SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s "
                "AND state <> 'idle')", storage.schema)  # fmt: skip
    # Whether it took effect or not, all goes on.
    assert (await storage.counts("default"))["default"][JobState.PENDING] <= 2
    assert len(await storage.add([new_job()])) == 1


async def test_a_claim_whose_caller_was_cancelled_is_adopted(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any], postgres_dsn: str
) -> None:
    worker = (await register_worker(storage)).id
    (added,) = await storage.add([new_job()])
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as other:
        await other.execute(f"LOCK TABLE {storage.schema}.running".encode())
        task = asyncio.ensure_future(storage.settle_and_claim(worker, claim=Claim.of("default", limit=1)))
        await until(admin, WAITS_FOR_LOCK, storage.schema)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(admin, "SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s "
                "AND state <> 'idle')", storage.schema)  # fmt: skip
    adopted = await storage.recover_claims(worker, [])
    again = (await storage.settle_and_claim(worker, claim=Claim.of("default", limit=1))).claimed
    assert [job.id for job in adopted + again] == [added.id], "owned once, by whichever way"


async def test_a_restarted_server_is_survived(own_server: ThrowawayPostgres) -> None:
    storage = PostgresQueueStorage(own_server.dsn, time_limit=5)
    await storage.migrate()
    async with storage:
        info = await register_worker(storage)
        heartbeat = storage.heartbeat(info)
        assert heartbeat.beat(WorkerStats())
        added = await storage.add([new_job() for _ in range(4)])
        first = (await storage.settle_and_claim(info.id, claim=Claim.of("default", limit=2))).claimed
        async with storage.subscribe([queue_topic("default")]) as subscription:
            for at_once in (False, True):
                own_server.halt(at_once=at_once)
                with pytest.raises(StorageUnavailableError):
                    await storage.add([new_job()])
                with pytest.raises(StorageUnavailableError):
                    await storage.settle_and_claim(info.id, [Settlement(first[0].id, first[0].lease, Ending.COMPLETE)])
                with pytest.raises(StorageUnavailableError):
                    heartbeat.beat(WorkerStats())
                own_server.start()
                assert heartbeat.beat(WorkerStats())
                # The listener reconnects, and notifies all subscriptions, as notifications may have been missed.
                assert await subscription.wait(30) == {queue_topic("default")}
        done = [Settlement(job.id, job.lease, Ending.COMPLETE, b"1") for job in first]
        exchange = await storage.settle_and_claim(info.id, done, Claim.of("default", limit=10))
        assert exchange.settled == [JobState.COMPLETED] * 2
        assert [job.id for job in exchange.claimed] == [a.id for a in added[2:]]
        heartbeat.close()


async def test_a_dead_listener_is_replaced_and_wakes_those_who_listen(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any], postgres_dsn: str
) -> None:
    other = PostgresQueueStorage(postgres_dsn, schema=storage.schema)
    topic = queue_topic("default")
    async with other, storage.subscribe([topic]) as subscription:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND query LIKE 'LISTEN%%'"
        ((pid,),) = await rows(admin, query, storage.schema)
        await rows(admin, "SELECT pg_terminate_backend(%s, 10000)", pid)
        assert await subscription.wait(20) == {topic}
        await until(admin, query, storage.schema)
        await other.add([new_job()])
        assert await subscription.wait(20) == {topic}


async def test_no_server_at_all_is_an_outage(own_server: ThrowawayPostgres) -> None:
    storage = PostgresQueueStorage(own_server.dsn)
    await storage.migrate()
    own_server.halt()
    with pytest.raises(StorageUnavailableError):
        await storage.open()
    with pytest.raises(StorageUnavailableError):
        await storage.migrate()
    own_server.start()
    async with storage:
        assert await storage.workers() == []


async def test_no_more_connections_than_allowed_are_made(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any], postgres_dsn: str
) -> None:
    name = f"{storage.schema}-two"
    dsn = f"{postgres_dsn}&application_name={name}"
    async with PostgresQueueStorage(dsn, schema=storage.schema, pool_size=2) as small:
        await asyncio.gather(*(small.add([new_job()]) for _ in range(50)))
        ((count,),) = await rows(admin, "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", name)
        assert count <= 2
    assert (await storage.counts("default"))["default"][JobState.PENDING] == 50


async def test_a_heartbeat_whose_connection_died_while_idle_uses_another(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any]
) -> None:
    info = worker_info()
    await storage.register(info)
    heartbeat = storage.heartbeat(info)
    assert heartbeat.beat(WorkerStats())
    await rows(admin, TERMINATE, storage.schema)
    assert heartbeat.beat(WorkerStats(completed=3))
    assert (await storage.workers())[0].stats.completed == 3
    heartbeat.close()


async def test_beats_that_wait_for_a_lock_leave_no_connection_behind(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any], postgres_dsn: str
) -> None:
    info = worker_info(lost_after=3.0)
    await storage.register(info)
    heartbeat = storage.heartbeat(info)
    assert heartbeat.beat(WorkerStats())
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as other:
        await other.execute(f"LOCK TABLE {storage.schema}.worker".encode())
        for _ in range(3):
            with pytest.raises(StorageUnavailableError):
                await asyncio.to_thread(heartbeat.beat, WorkerStats())
        # The server's limit may end a moment after ours. Without one, all three would wait here for good.
        await until(admin, "SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s "
                    "AND wait_event_type = 'Lock')", storage.schema)  # fmt: skip
    assert await asyncio.to_thread(heartbeat.beat, WorkerStats())
    heartbeat.close()


async def test_a_database_that_takes_no_writes_says_so_and_another_connection_is_tried(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any], postgres_dsn: str
) -> None:
    dsn = f"{postgres_dsn}&options=-c%20default_transaction_read_only=on"
    async with PostgresQueueStorage(dsn, schema=storage.schema) as read_only:
        assert await read_only.get([new_job().id]) == [None]
        with pytest.raises(StorageReadOnlyError, match="target_session_attrs=read-write"):
            await read_only.add([new_job()])
    # A server that was the primary when the connection was made, and is not any more. The statement is prepared there:
    # after an error in one that is not, a connection is given up anyhow.
    kept = QueueOptions(retention=Retention(completed=60.0))
    for _ in range(3):
        await storage.set_queue("default", kept)
    connection = storage._engine.pool._idle[-1][0]
    await connection.fetch([(Statement("demote", "SET default_transaction_read_only = on"), ())])
    await storage.set_queue("default", kept)
    assert connection.closed


async def test_a_fork_is_refused_its_parents_connections(
    storage: PostgresQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.now()
    with monkeypatch.context() as forked:
        forked.setattr("os.getpid", lambda: -1)
        for _ in range(2):
            with pytest.raises(StorageError, match="fork"):
                await storage.now()
    await storage.now()


@pytest.mark.parametrize("payload", ["nonsense", "[]", "[1]", ""])
async def test_a_notification_that_is_not_ours_does_not_end_the_listening(
    storage: PostgresQueueStorage, admin: psycopg.AsyncConnection[Any], postgres_dsn: str, payload: str
) -> None:
    topic = queue_topic("default")
    async with (
        storage.subscribe([topic]) as subscription,
        PostgresQueueStorage(postgres_dsn, schema=storage.schema) as other,
    ):
        await admin.execute("SELECT pg_notify(%s, %s)", [f"jobq_{storage.schema}", payload])
        await other.add([new_job()])
        async with asyncio.timeout(20):
            assert await subscription.wait() == {topic}


async def test_a_heartbeat_does_not_wait_longer_to_connect_than_its_lease_allows(
    storage: PostgresQueueStorage,
) -> None:
    """A server that takes the connection and then says nothing, as behind a dead router."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        dead = PostgresQueueStorage(f"postgresql://postgres@127.0.0.1:{port}/x")
        dead._engine.pool.start()
        heartbeat = dead.heartbeat(worker_info(lost_after=6.0))
        before = time.monotonic()
        with pytest.raises(StorageUnavailableError):
            await asyncio.to_thread(heartbeat.beat, WorkerStats())
        assert time.monotonic() - before < 6


async def test_an_exchange_that_fails_after_its_commit_is_sent_again(
    storage: PostgresQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await register_worker(storage)
    await storage.add([new_job(), new_job()])
    [run] = (await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=1))).claimed
    ends = [Settlement(run.id, run.lease, Ending.COMPLETE)]
    claim = Claim.of("default", limit=1)
    # The claim meets a line that is new to it, and its reading fails when the settlement is committed.
    await storage.add([new_job(priority=5)])
    failing = Statement("failing", "SELECT 1 / 0 FROM unnest($1::text[])")
    with monkeypatch.context() as patch:
        patch.setitem(storage._engine.statements._made, "lines", failing)
        with pytest.raises(StorageError):
            await storage.settle_and_claim(worker.id, ends, claim)
    again = await storage.settle_and_claim(worker.id, ends, claim)
    assert (again.settled, len(again.claimed)) == ([JobState.COMPLETED], 1)
