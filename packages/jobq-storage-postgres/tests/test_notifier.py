"""Rings that ride behind the transaction they tell of, and what becomes of the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from jobq_core.errors import StorageUnavailableError
from jobq_core.storage import queue_topic
from jobq_core.testing import new_job
from jobq_storage_postgres import PostgresQueueStorage, notifier
from jobq_storage_postgres.binary import pack_text, texts
from jobq_storage_postgres.connection import Link
from jobq_storage_postgres.notifier import Doorbell, channel_of
from jobq_storage_postgres.protocol import Step
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


async def heard(listener: psycopg.AsyncConnection[Any], more_after: float) -> int:
    """Count notifications until none came for so many seconds."""
    return len([n async for n in listener.notifies(timeout=more_after)])


async def test_lone_adds_are_heard_elsewhere_and_need_one_connection(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    async with (
        PostgresQueueStorage(postgres_dsn, schema=storage.schema) as other,
        other.subscribe([TOPIC]) as ear,
        await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin,
    ):
        for _ in range(20):
            await storage.add([new_job()])
            assert await ear.wait(10) == {TOPIC}
            assert not await ear.wait(0.02), "one ring, and then the bell is quiet"
        (count,) = await (await admin.execute(SENT, (storage.schema,))).fetchone() or (0,)
        assert count == 1


async def test_a_flood_of_adds_rings_two_hundred_times_a_second_at_most_once_it_lasts(
    storage: PostgresQueueStorage, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "_BURST", 0.05)  # ten rings, so that a short flood lasts
    loop = asyncio.get_running_loop()
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as listener:
        await listener.execute(f"LISTEN {channel_of(storage.schema)}".encode())
        began = loop.time()
        for _ in range(400):
            await storage.add([new_job()])
        await storage.close()  # after which no ring is left
        took = loop.time() - began
        assert 1 <= await heard(listener, 0.2) <= min(took / 0.002, 10 + took / 0.005) + 2


async def test_a_flood_of_one_add_after_another_does_not_keep_the_bell_from_ringing(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    loop = asyncio.get_running_loop()
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as listener:
        await listener.execute(f"LISTEN {channel_of(storage.schema)}".encode())
        began = loop.time()
        for _ in range(400):
            await storage.add([new_job()])
        took = loop.time() - began
        assert await heard(listener, 0.2) >= min(400, took / 0.005) / 4


async def test_a_ring_that_is_due_rides_behind_the_next_add(
    storage: PostgresQueueStorage, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "_EARLY", 60)  # any ring is due soon
    async with (
        PostgresQueueStorage(postgres_dsn, schema=storage.schema) as other,
        other.subscribe([TOPIC, queue_topic("second")]) as ear,
        await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin,
    ):
        await storage.add([new_job()])  # so that all is prepared
        assert await ear.wait(10) == {TOPIC}
        assert not await ear.wait(0.02), "one ring, and then the bell is quiet"
        storage._doorbell.ring([queue_topic("second")])
        await storage.add([new_job()])
        assert await ear.wait(10) == {TOPIC, queue_topic("second")}, "they came together"
        assert not await ear.wait(0.02), "one ring, and then the bell is quiet"
        (count,) = await (await admin.execute(SENT, (storage.schema,))).fetchone() or (0,)
        assert count == 1


async def test_a_ring_that_was_to_ride_behind_an_add_that_is_lost_rings_by_itself(
    storage: PostgresQueueStorage, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "_EARLY", 60)
    rode: list[Step | None] = []

    async def lose(self: Link, steps: Any, behind: Step | None = None) -> Any:
        rode.append(behind)
        self.close()
        raise psycopg.OperationalError("the connection was lost")

    second = queue_topic("second")
    async with (
        PostgresQueueStorage(postgres_dsn, schema=storage.schema) as other,
        other.subscribe([TOPIC, second]) as ear,
    ):
        await storage.add([new_job()])  # so that all is prepared
        assert await ear.wait(10) == {TOPIC}
        assert not await ear.wait(0.02), "one ring, and then the bell is quiet"
        storage._doorbell.ring([second])
        with monkeypatch.context() as broken:
            broken.setattr(Link, "run", lose)
            with pytest.raises(StorageUnavailableError):
                await storage.add([new_job()])
        assert [second.encode() in (step[1][1] or b"") for step in rode if step is not None] == [True]
        assert await ear.wait(10) == {second}


async def test_adds_go_on_while_somebody_holds_up_all_notifications(own_server: ThrowawayPostgres) -> None:
    # A commit that notifies, and waits for a standby, keeps all others that notify waiting.
    dsn = f"{own_server.dsn}&application_name=adding&options=-c%20synchronous_commit%3Dlocal"
    storage = PostgresQueueStorage(dsn, pool_size=2, time_limit=30)
    await storage.migrate()
    async with await psycopg.AsyncConnection.connect(own_server.dsn, autocommit=True) as admin:
        async with storage, PostgresQueueStorage(own_server.dsn) as other, other.subscribe([TOPIC]) as ear:
            await storage.add([new_job()])  # so that all is prepared
            assert await ear.wait(10) == {TOPIC}
            assert not await ear.wait(0.02), "one ring, and then the bell is quiet"
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


async def test_a_ring_that_fails_behind_an_add_costs_no_job(
    storage: PostgresQueueStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    too_long = (pack_text("channel"), texts(["x" * 9000]))
    step = Doorbell._step

    def spoiled(self: Doorbell, origin: str, topics: Any) -> Step:
        return step(self, origin, topics)[0], too_long

    async with PostgresQueueStorage(storage.url) as other, other.subscribe([TOPIC]) as ear:
        await storage.add([new_job()])  # so that all is prepared
        assert await ear.wait(10) == {TOPIC}
        assert not await ear.wait(0.02), "one ring, and then the bell is quiet"
        monkeypatch.setattr(Doorbell, "_step", spoiled)
        with caplog.at_level(logging.WARNING, "jobq.postgres"):
            assert [added.created for added in await storage.add([new_job()])] == [True]
            assert [added.created for added in await storage.add([new_job()])] == [True]
        assert "behind a transaction" in caplog.text
        monkeypatch.undo()
        await storage.add([new_job()])
        assert await ear.wait(10) == {TOPIC}


async def test_a_job_that_is_there_already_leaves_the_connection_in_order(storage: PostgresQueueStorage) -> None:
    job = new_job()
    assert [added.created for added in await storage.add([job])] == [True]
    for _ in range(20):
        assert [added.created for added in await storage.add([job])] == [False]
    assert [added.created for added in await storage.add([new_job()])] == [True]


async def test_a_lost_listener_is_told_of_once_in_each_outage_and_comes_back_less_and_less_often_until_it_is_over(
    storage: PostgresQueueStorage, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    longest: list[float] = []
    enough = asyncio.Event()

    def no_pause(_: float, most: float) -> float:
        longest.append(most)
        if len(longest) >= 10:
            enough.set()
        return 0.0

    async def refused(*_: Any, **__: Any) -> Link:
        raise psycopg.OperationalError("refused")

    monkeypatch.setattr("random.uniform", no_pause)
    async with (
        storage.subscribe([TOPIC]) as ear,
        await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin,
    ):
        for _ in range(2):
            longest.clear()
            enough.clear()
            caplog.clear()
            with monkeypatch.context() as outage:
                outage.setattr(Link, "connect", refused)
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                    (storage.schema,),
                )
                async with asyncio.timeout(20):
                    await enough.wait()
            assert await ear.wait(20) == {TOPIC}, "heard again; rings may have been missed"
            told = [record for record in caplog.records if "cannot be heard" in record.message]
            assert [record.levelname for record in told if record.levelno > logging.DEBUG] == ["WARNING"]
            assert longest[0] < 1
            assert longest[:10] == sorted(longest[:10])
            assert longest[9] == notifier._LONGEST_BACKOFF


async def rows(connection: psycopg.AsyncConnection[Any], query: str) -> list[Any]:
    return await (await connection.execute(query)).fetchall()


async def until(connection: psycopg.AsyncConnection[Any], query: str) -> None:
    """Ask until the answer has a row."""
    async with asyncio.timeout(20):
        while not await rows(connection, query):  # noqa: ASYNC110 (the event is in the server)
            await asyncio.sleep(0.005)
