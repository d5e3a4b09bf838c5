"""A notification is on its way when `add` has returned, whatever the caller's event loop does next."""

from __future__ import annotations

import asyncio
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio

from jobq_core.storage import queue_topic
from jobq_core.testing import new_job
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.address import Address
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.dsn import parse
from jobq_storage_postgres.protocol import Statement


@pytest_asyncio.fixture(params=["a session each", "as behind a pooler", "one connection"])
async def storage(
    request: pytest.FixtureRequest, postgres_dsn: str, empty_schema: str
) -> AsyncIterator[PostgresQueueStorage]:
    size = 1 if request.param == "one connection" else 10
    prepared = None if request.param != "as behind a pooler" else False
    storage = PostgresQueueStorage(postgres_dsn, schema=empty_schema, pool_size=size, prepared=prepared)
    async with storage:
        yield storage


class Observer:
    """Another process's view, over blocking connections: the event loop is blocked while it waits."""

    def __init__(self, dsn: str, schema: str) -> None:
        self._listening = psycopg.connect(dsn, autocommit=True)
        self._listening.execute(f"LISTEN jobq_{schema}".encode())
        self._reading = psycopg.connect(dsn, autocommit=True)
        self._count = f"SELECT count(*) FROM {schema}.job WHERE queue = %s".encode()

    def wait_until_announced(self, jobs: int, queue: str = "default") -> None:
        """Block until a notification about this queue comes when so many jobs are stored."""
        for notification in self._listening.notifies(timeout=10):
            announced = queue_topic(queue) in notification.payload
            if announced and self._reading.execute(self._count, (queue,)).fetchone() == (jobs,):
                return
        pytest.fail(f"no notification came after job {jobs} of queue {queue!r}")

    def close(self) -> None:
        self._listening.close()
        self._reading.close()


@pytest.fixture
def others(storage: PostgresQueueStorage, postgres_dsn: str) -> Iterator[Observer]:
    observer = Observer(postgres_dsn, storage.schema)
    yield observer
    observer.close()


@pytest.mark.parametrize("unique", [False, True], ids=["plain", "unique"])
async def test_each_add_is_announced_to_others_while_its_callers_loop_is_blocked(
    storage: PostgresQueueStorage, others: Observer, unique: bool
) -> None:
    for n in range(1, 21):
        await storage.add([new_job(unique_key=f"key {n}" if unique else None)])
        others.wait_until_announced(n)


async def test_adds_in_quick_succession_are_announced_while_their_callers_loop_is_blocked_after_them(
    storage: PostgresQueueStorage, others: Observer
) -> None:
    added = 0
    for burst in (2, 3, 5, 10, 50, 2):
        for _ in range(burst):
            await storage.add([new_job()])
        added += burst
        others.wait_until_announced(added)


async def test_an_add_to_another_queue_is_announced_although_a_notification_is_under_way(
    storage: PostgresQueueStorage, others: Observer
) -> None:
    for n in range(20):
        await storage.add([new_job()])
        await storage.add([new_job()])
        await storage.add([new_job(queue=f"queue {n}")])
        others.wait_until_announced(1, f"queue {n}")


ADD_AND_END = """
import asyncio, os, sys
from jobq_core.testing import new_job
from jobq_storage_postgres import PostgresQueueStorage
async def main():
    storage = PostgresQueueStorage(sys.argv[1])
    await storage.open()
    for _ in range(int(sys.argv[2])):
        await storage.add([new_job()])
    os._exit(0)
asyncio.run(main())
"""


@pytest.mark.parametrize("jobs", [1, 2, 7])
async def test_an_add_is_announced_although_its_process_ends_at_once(
    storage: PostgresQueueStorage, others: Observer, jobs: int
) -> None:
    subprocess.run([sys.executable, "-c", ADD_AND_END, f"{storage.url}", str(jobs)], check=True)  # noqa: ASYNC221
    others.wait_until_announced(jobs)


async def test_a_connection_whose_answer_was_taken_before_the_loop_came_to_it_is_kept(postgres_dsn: str) -> None:
    """The loop sees that the socket is readable, and catching up takes the input before the socket's turn comes.

    The connection seemed to be lost then: adding 2,000 jobs one by one opened up to 9 others, and registered their line
    as often.
    """
    connection = await Connection.connect(Address(parse(postgres_dsn, 30)), time_limit=30, prepared=None)
    answer = connection.post([(Statement("one", "SELECT 1"), ())])
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    while not answer.done():
        assert poll.poll(10_000)
        asyncio.get_running_loop().call_soon(connection.catch_up)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connection.is_fresh()
    connection.close()


async def test_a_connection_is_closed_when_the_answer_to_what_was_posted_is_cancelled(postgres_dsn: str) -> None:
    connection = await Connection.connect(Address(parse(postgres_dsn, 30)), time_limit=30, prepared=None)
    connection.post([(Statement("one", "SELECT 1"), ())]).cancel()
    await asyncio.sleep(0)
    assert connection.closed
    assert connection.discarded
