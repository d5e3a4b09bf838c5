"""What was acknowledged is kept, whatever the server's defaults are; where it cannot be, that is said."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from jobq_core.testing import new_job
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.protocol import Statement
from jobq_storage_postgres.testing import ThrowawayPostgres

SHOW = Statement("show", "SELECT current_setting('synchronous_commit')")


@pytest_asyncio.fixture
async def lax(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[Any]:
    """Make a role whose default is given, and return its DSN."""
    await PostgresQueueStorage(postgres_dsn, schema=postgres_schema).migrate()
    role = sql.Identifier(postgres_schema)

    async def set_default(value: str) -> str:
        await admin.execute(sql.SQL("ALTER ROLE {} SET synchronous_commit = {}").format(role, value))
        return postgres_dsn.replace("postgres@", f"{postgres_schema}@", 1)

    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        await admin.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(role))
        yield set_default
        await admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
        await admin.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize(("default", "used"), [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")])
async def test_a_commit_is_flushed_whatever_the_default(
    lax: Any, postgres_schema: str, default: str, used: str, prepared: bool
) -> None:
    async with PostgresQueueStorage(await lax(default), schema=postgres_schema, prepared=prepared) as storage:
        assert await storage._engine.database.fetch(SHOW) == [(used,)]


async def test_who_asks_for_less_in_the_dsn_itself_gets_it(lax: Any, postgres_schema: str) -> None:
    dsn = f"{await lax('on')}&options=-c%20synchronous_commit%3Doff"
    async with PostgresQueueStorage(dsn, schema=postgres_schema) as storage:
        assert await storage._engine.database.fetch(SHOW) == [("off",)]


@pytest.fixture
def forgetful() -> Iterator[ThrowawayPostgres]:
    """A server that flushes late, and not before it is asked to answer."""
    settings = {"synchronous_commit": "off", "wal_writer_delay": "10s", "fsync": "on", "full_page_writes": "on"}
    with ThrowawayPostgres(settings=settings) as server:
        yield server


async def test_a_crash_right_after_an_add_loses_nothing(forgetful: ThrowawayPostgres) -> None:
    await PostgresQueueStorage(forgetful.dsn).migrate()
    with psycopg.connect(forgetful.dsn, autocommit=True) as admin:
        admin.execute("CREATE TABLE other (id int)")
        admin.execute("CHECKPOINT")
    storage = PostgresQueueStorage(forgetful.dsn)
    await storage.open()
    jobs = [new_job() for _ in range(3)]
    await storage.add(jobs[:1])
    await storage.add(jobs[1:])
    acknowledged = 0
    first = threading.Event()

    def insert_until_the_crash() -> None:
        nonlocal acknowledged
        with contextlib.suppress(psycopg.Error), psycopg.connect(forgetful.dsn, autocommit=True) as other:
            while True:
                other.execute("INSERT INTO other VALUES (1)")
                acknowledged += 1
                first.set()

    inserting = threading.Thread(target=insert_until_the_crash)
    inserting.start()
    await asyncio.to_thread(first.wait)
    forgetful.halt(at_once=True)
    inserting.join()
    await storage.close()
    forgetful.start()
    with psycopg.connect(forgetful.dsn) as admin:
        (kept,) = admin.execute("SELECT count(*) FROM other").fetchone() or (0,)
    assert kept < acknowledged, "the server forgot what it acknowledged"
    async with PostgresQueueStorage(forgetful.dsn) as storage:
        assert None not in await storage.get([job.id for job in jobs])
        assert storage.warnings == ()


async def test_a_server_that_does_not_flush_at_all_is_warned_of() -> None:
    with ThrowawayPostgres(settings={"fsync": "off", "full_page_writes": "off"}) as server:
        storage = PostgresQueueStorage(server.dsn)
        await storage.migrate()
        assert storage.warnings == ()
        async with storage:
            first, second = storage.warnings
        assert "fsync=off: a crash of its machine can lose acknowledged jobs" in first
        assert "full_page_writes=off" in second
        assert storage.warnings == ()
