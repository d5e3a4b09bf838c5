"""`add(connection=…)` adds a job in the caller's transaction; workers do not see the job before the commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
import psycopg
import pytest
from shop_jobs import count
from watching import Log

from jobq_client import JobQueueClient
from jobq_core import JobState


@asynccontextmanager
async def transaction_of_the_app(url: str) -> AsyncIterator[Any]:
    """Open an application's connection, create its table, and begin a transaction by writing to the table."""
    if url.startswith("sqlite"):
        async with aiosqlite.connect(url.removeprefix("sqlite:///")) as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
            await connection.execute("INSERT INTO orders VALUES (7)")
            yield connection
    else:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as postgres:
            await postgres.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
            await postgres.set_autocommit(False)
            await postgres.execute("INSERT INTO orders VALUES (7)")
            yield postgres


async def orders(url: str) -> int:
    """Return the number of orders that the application has committed."""
    if url.startswith("sqlite"):
        async with aiosqlite.connect(url.removeprefix("sqlite:///")) as connection:
            async with connection.execute("SELECT count(*) FROM orders") as cursor:
                return int((await cursor.fetchone() or [0])[0])
    async with await psycopg.AsyncConnection.connect(url) as postgres:
        return int((await (await postgres.execute("SELECT count(*) FROM orders")).fetchone() or [0])[0])


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@pytest.fixture
async def client(migrated_url: str, children: Any) -> AsyncIterator[JobQueueClient]:
    children.jobq("worker", "shop_jobs", "--storage", migrated_url).wait_for_line("started")
    async with JobQueueClient(migrated_url) as opened:
        yield opened


async def test_a_job_runs_after_the_commit_and_not_before(migrated_url: str, client: JobQueueClient, log: Log) -> None:
    async with transaction_of_the_app(migrated_url) as connection:
        handle = await client.add(count(log=str(log), n=1), connection=connection)
        assert await client.get(handle) is None
        if not migrated_url.startswith("sqlite"):  # this transaction is the only writer: no worker runs jobs
            assert await client.wait_for(await client.add(count(log=str(log), n=2)), timeout=30) == 2
            assert log.lines == ["2"]
        assert await client.get(handle) is None
        await connection.commit()
    assert await client.wait_for(handle, timeout=30) == 1
    assert log.lines[-1] == "1"
    assert await orders(migrated_url) == 1


async def test_a_rolled_back_job_never_existed(migrated_url: str, client: JobQueueClient, log: Log) -> None:
    async with transaction_of_the_app(migrated_url) as connection:
        handles = await client.add_many([count(log=str(log), n=n) for n in range(5)], connection=connection)
        await connection.rollback()
    assert await client.wait_for(await client.add(count(log=str(log), n=9)), timeout=30) == 9
    assert [await client.get(handle) for handle in handles] == [None] * 5
    assert log.lines == ["9"]
    assert await orders(migrated_url) == 0
    assert (await client.counts())[JobState.COMPLETED] == 1


async def test_a_transaction_whose_process_dies_leaves_no_job(
    migrated_url: str, client: JobQueueClient, children: Any, log: Log
) -> None:
    dying = children.python(
        "-c",
        """
import asyncio, os, signal, sys
from test_transactions import transaction_of_the_app
from jobq_client import JobQueueClient
from shop_jobs import count

async def main(url, log):
    async with JobQueueClient(url) as client, transaction_of_the_app(url) as connection:
        await client.add(count(log=log, n=1), connection=connection)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
""",
        migrated_url,
        str(log),
        PYTHONPATH=f"{Path(__file__).parent}:{Path(__file__).parent / 'support'}",
    )
    assert dying.wait() == -9
    assert await client.wait_for(await client.add(count(log=str(log), n=2)), timeout=30) == 2
    assert (await client.counts())[JobState.COMPLETED] == 1
    assert log.lines == ["2"]


async def test_two_transactions_that_add_a_unique_job_get_the_same_job(
    migrated_url: str, client: JobQueueClient, log: Log
) -> None:
    async with transaction_of_the_app(migrated_url) as connection:
        first = await client.add(count(log=str(log), n=1), unique="it", delay=3600, connection=connection)
        await connection.commit()
    second = await client.add(count(log=str(log), n=2), unique="it")
    assert (first.created, second.created) == (True, False)
    assert first == second
