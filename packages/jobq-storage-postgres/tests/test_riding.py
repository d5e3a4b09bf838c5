"""Notifications that ride along with the add that they announce, and what happens if the add or they fail."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from jobq_core.errors import StorageUnavailableError
from jobq_core.storage import queue_topic
from jobq_core.testing import new_job
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.protocol import Step

TOPIC = queue_topic("default")
SECOND = queue_topic("second")


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(f"{postgres_dsn}&application_name={postgres_schema}", schema=postgres_schema)
    await storage.migrate()
    async with storage:
        yield storage


async def test_what_a_lost_notification_announced_is_announced_again(
    storage: PostgresQueueStorage, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    riders: list[Step | None] = []

    async def lose(self: Connection, steps: Any, rider: Step | None = None) -> Any:
        riders.append(rider)
        self.close()
        raise psycopg.OperationalError("the connection was lost")

    async with (
        PostgresQueueStorage(postgres_dsn, schema=storage.schema) as other,
        other.subscribe([TOPIC, SECOND]) as subscription,
    ):
        await storage._engine.lines.register({("default", 0)})
        await storage.add([new_job(queue="second")])
        assert await subscription.wait(10) == {SECOND}
        assert not await subscription.wait(0.02), "one notification, and no more"
        with monkeypatch.context() as broken:
            broken.setattr(Connection, "run", lose)
            with pytest.raises(StorageUnavailableError):
                await storage.add([new_job()])
        assert [TOPIC.encode() in (rider[1][1] or b"") for rider in riders if rider is not None] == [True]
        # Other adds may have counted on it.
        assert await subscription.wait(10) == {TOPIC}


async def test_a_rider_that_fails_costs_no_job(
    storage: PostgresQueueStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with PostgresQueueStorage(storage.url) as other, other.subscribe([TOPIC]) as subscription:
        await storage.add([new_job()])  # so that all statements are prepared
        assert await subscription.wait(10) == {TOPIC}
        assert not await subscription.wait(0.02), "one notification, and no more"
        monkeypatch.setattr("jobq_storage_postgres.notifier.payloads", lambda *_: ["x" * 9000])
        with caplog.at_level(logging.WARNING, "jobq.postgres"):
            assert [added.created for added in await storage.add([new_job()])] == [True]
            assert [added.created for added in await storage.add([new_job()])] == [True]
        assert "behind a transaction may be lost" in caplog.text
        monkeypatch.undo()
        await storage.add([new_job()])
        assert await subscription.wait(10) == {TOPIC}
