"""Notifications of other processes: how many are sent, and what happens if they cannot be sent or received."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from jobq_core.storage import queue_topic
from jobq_core.testing import new_job
from jobq_storage_postgres import PostgresQueueStorage, coalescing, listener
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.testing import ThrowawayPostgres

TOPIC = queue_topic("default")
SENT = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(f"{postgres_dsn}&application_name={postgres_schema}", schema=postgres_schema)
    await storage.migrate()
    async with storage:
        yield storage


@pytest.fixture
def own_server() -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres() as server:
        yield server


async def received(listening: psycopg.AsyncConnection[Any], more_after: float) -> int:
    """Count notifications until none came for so many seconds."""
    return len([n async for n in listening.notifies(timeout=more_after)])


async def test_lone_adds_notify_other_processes_over_one_connection(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    async with (
        PostgresQueueStorage(postgres_dsn, schema=storage.schema) as other,
        other.subscribe([TOPIC]) as subscription,
        await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin,
    ):
        for _ in range(20):
            await storage.add([new_job()])
            assert await subscription.wait(10) == {TOPIC}
            assert not await subscription.wait(0.02), "one notification, and no more"
        (count,) = await (await admin.execute(SENT, (storage.schema,))).fetchone() or (0,)
        assert count == 1


async def test_a_flood_of_adds_notifies_at_most_two_hundred_times_a_second(
    storage: PostgresQueueStorage, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coalescing, "BURST_SECONDS", 0.05)  # ten notifications, so that a short flood is a flood
    loop = asyncio.get_running_loop()
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as listening:
        await listening.execute(f"LISTEN jobq_{storage.schema}".encode())
        began = loop.time()
        for _ in range(400):
            await storage.add([new_job()])
        await storage.close()  # after which no notification is pending
        took = loop.time() - began
        assert 1 <= await received(listening, 0.2) <= min(took / 0.002, 10 + took / 0.005) + 2


async def test_a_flood_of_lone_adds_does_not_suppress_notifications(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    loop = asyncio.get_running_loop()
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as listening:
        await listening.execute(f"LISTEN jobq_{storage.schema}".encode())
        began = loop.time()
        for _ in range(400):
            await storage.add([new_job()])
        took = loop.time() - began
        assert await received(listening, 0.2) >= min(400, took / 0.005) / 4


async def test_adds_continue_while_another_session_holds_up_all_notifications(
    own_server: ThrowawayPostgres,
) -> None:
    # A commit that notifies, and waits for a standby, keeps all others that notify waiting.
    dsn = f"{own_server.dsn}&application_name=adding&options=-c%20synchronous_commit%3Dlocal"
    storage = PostgresQueueStorage(dsn, pool_size=2, time_limit=30)
    await storage.migrate()
    async with await psycopg.AsyncConnection.connect(own_server.dsn, autocommit=True) as admin:
        async with storage, PostgresQueueStorage(own_server.dsn) as other, other.subscribe([TOPIC]) as subscription:
            await storage.add([new_job()])  # so that all statements are prepared
            assert await subscription.wait(10) == {TOPIC}
            async with await psycopg.AsyncConnection.connect(own_server.dsn, autocommit=True) as holder:
                await holder.execute("CREATE TABLE held (n int)")
                await admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
                await admin.execute("SELECT pg_reload_conf()")
                over = asyncio.Event()

                async def commit_until_over() -> None:
                    while not over.is_set():  # a setting takes effect some time after it was made
                        await holder.execute(
                            "WITH new AS (INSERT INTO held VALUES (1)) SELECT pg_notify('somebody', '')"
                        )

                holding = asyncio.create_task(commit_until_over())
                await until(admin, "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
                async with asyncio.timeout(20):
                    while not await rows(admin, HELD_UP):
                        await storage.add([new_job()])
                    for _ in range(500):
                        await storage.add([new_job()])
                assert len(await rows(admin, HELD_UP)) == 1
                over.set()
                await admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
                await admin.execute("SELECT pg_reload_conf()")
                await holding


HELD_UP = "SELECT FROM pg_stat_activity WHERE application_name = 'adding' AND wait_event_type = 'Lock'"


async def test_a_notification_that_fails_costs_no_job(
    storage: PostgresQueueStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with PostgresQueueStorage(storage.url) as other, other.subscribe([TOPIC]) as subscription:
        monkeypatch.setattr("jobq_storage_postgres.notifier.payloads", lambda *_: ["x" * 9000])
        with caplog.at_level(logging.WARNING, "jobq.postgres"):
            assert [added.created for added in await storage.add([new_job()])] == [True]
            assert [added.created for added in await storage.add([new_job(unique_key="k")])] == [True]
            await until_logged(caplog, "may be lost")
            await until_logged(caplog, "could not notify other processes")
        monkeypatch.undo()
        await storage.add([new_job()])
        assert await subscription.wait(10) == {TOPIC}


async def test_a_lost_listener_warns_once_per_outage_and_reconnects_with_growing_pauses(
    storage: PostgresQueueStorage, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    longest: list[float] = []
    enough = asyncio.Event()

    def no_pause(_: float, most: float) -> float:
        longest.append(most)
        if len(longest) >= 10:
            enough.set()
        return 0.0

    async def refused(*_: Any, **__: Any) -> Connection:
        raise psycopg.OperationalError("refused")

    monkeypatch.setattr("random.uniform", no_pause)
    async with (
        storage.subscribe([TOPIC]) as subscription,
        await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin,
    ):
        for _ in range(2):
            longest.clear()
            enough.clear()
            caplog.clear()
            with monkeypatch.context() as outage:
                outage.setattr(Connection, "connect", refused)
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                    (storage.schema,),
                )
                async with asyncio.timeout(20):
                    await enough.wait()
            assert await subscription.wait(20) == {TOPIC}, "listening again; notifications may have been missed"
            logged = [record for record in caplog.records if "cannot listen" in record.message]
            assert [record.levelname for record in logged if record.levelno > logging.DEBUG] == ["WARNING"]
            assert longest[0] < 1
            assert longest[:10] == sorted(longest[:10])
            assert longest[9] == listener.LONGEST_BACKOFF_SECONDS


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Turn the event loop until a message with this text is logged."""
    while text not in caplog.text:  # noqa: ASYNC110 (the event is in the log)
        await asyncio.sleep(0.001)


async def rows(connection: psycopg.AsyncConnection[Any], query: str) -> list[Any]:
    return await (await connection.execute(query)).fetchall()


async def until(connection: psycopg.AsyncConnection[Any], query: str) -> None:
    """Ask until the answer has a row."""
    async with asyncio.timeout(20):
        while not await rows(connection, query):  # noqa: ASYNC110 (the event is in the server)
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_subscriber_that_is_cancelled_as_the_listener_connects_ends(
    storage: PostgresQueueStorage, turns: int
) -> None:
    listening = storage._engine.notifier._listener
    listening._task = asyncio.create_task(asyncio.sleep(0))  # in the place of one that connects
    subscribing = asyncio.create_task(listening.wait_attempted())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    listening._attempted.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    asked = subscribing.cancel()
    await asyncio.wait({subscribing})
    assert subscribing.cancelled() == asked, "the request to end is not lost"
