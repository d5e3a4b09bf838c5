"""Adding in bulk, and text that has a meaning in PostgreSQL's own notations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.pq.abc import PGresult

from jobq_core.errors import StorageUnavailableError
from jobq_core.states import JobState
from jobq_core.storage import Added, JobFilter
from jobq_core.testing import new_job
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.adding import BULK
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.lines import Line
from jobq_storage_postgres.protocol import Step


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await storage.migrate()
    async with storage:
        yield storage


@pytest.mark.parametrize("owner", [True, False])
async def test_a_bulk_load_updates_the_statistics_for_each_role(
    storage: PostgresQueueStorage, postgres_dsn: str, owner: bool
) -> None:
    role = f"{storage.schema}_app"
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        await admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        # The server would analyze by itself some time.
        ready = sql.Identifier(storage.schema, "ready")
        await admin.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(ready))
        try:
            await storage.grant({"producer": [role]})
            dsn = postgres_dsn.replace("postgres@", f"{'postgres' if owner else role}@", 1)
            async with PostgresQueueStorage(dsn, schema=storage.schema) as app:
                assert len(await app.add([new_job() for _ in range(BULK)])) == BULK
            row = await (
                await admin.execute(
                    "SELECT reltuples FROM pg_class WHERE oid = %s::regclass", (f"{storage.schema}.ready",)
                )
            ).fetchone()
            assert row == (BULK,)
        finally:
            await admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
            await admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    assert (await storage.counts("default"))["default"][JobState.PENDING] == BULK


@pytest.mark.parametrize(
    "text", ['"', "\\", "NULL", "{}", ",", " a ", "it's", "\n", "é\U0001f600", "%s", "$1", "jobq."]
)
async def test_names_come_back_as_they_were(storage: PostgresQueueStorage, text: str) -> None:
    job = new_job(queue=text, kind=text, tags=(text, "plain"), run_id=text, unique_key=text)
    assert [added.created for added in await storage.add([job, new_job(queue=text, unique_key=text)])] == [True, False]
    found = await storage.find(JobFilter(queue=text, kinds=(text,), tags=(text,), run_id=text))
    (record,) = found.jobs
    assert (record.queue, record.kind, record.tags, record.run_id, record.unique_key) == (
        text, text, (text, "plain"), text, text,
    )  # fmt: skip
    async with storage.subscribe([f"queue:{text}"]) as subscription:
        async with PostgresQueueStorage(storage.url, schema=storage.schema) as other:
            await other.add([new_job(queue=text)])
            assert await subscription.wait(20) == {f"queue:{text}"}


async def test_many_long_queue_names_are_sent_in_several_notifications(
    storage: PostgresQueueStorage,
) -> None:
    queues = ["é" * 200 + str(n) for n in range(100)]
    topics = {f"queue:{queue}" for queue in queues}
    async with storage.subscribe(topics) as subscription:
        async with PostgresQueueStorage(storage.url, schema=storage.schema) as other:
            await other.add([new_job(queue=queue) for queue in queues])
            received: set[str] = set()
            while received != topics:
                notified = await subscription.wait(20)
                assert notified, "a queue was not notified"
                received |= notified


async def test_a_key_whose_holder_ends_while_it_is_asked_for_is_taken_with_the_job_or_not_at_all(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    first, second, third = (new_job(unique_key="k") for _ in range(3))
    assert [added.created for added in await storage.add([first])] == [True]
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as ending:
        # As whatever settles the first one does. The add waits for it, and has seen the key before.
        keys = sql.Identifier(storage.schema, "unique_key")
        await ending.execute(sql.SQL("DELETE FROM {} WHERE job = %s").format(keys), (first.id,))
        adding = asyncio.create_task(storage.add([second]))
        async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin, asyncio.timeout(20):
            waits = "SELECT FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
            while not await (await admin.execute(waits, (ending.info.backend_pid,))).fetchall():  # noqa: ASYNC110
                await asyncio.sleep(0.005)  # the event is in the server
        await ending.commit()
    assert await adding == [Added(second.id, True)]
    assert (await storage.get([second.id]))[0] is not None
    assert await storage.add([third]) == [Added(second.id, False)]


async def test_a_job_that_is_stored_already_leaves_the_connection_usable(storage: PostgresQueueStorage) -> None:
    job = new_job()
    assert [added.created for added in await storage.add([job])] == [True]
    for _ in range(20):
        assert [added.created for added in await storage.add([job])] == [False]
    assert [added.created for added in await storage.add([new_job()])] == [True]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the statements of each round trip from now on."""
    trips: list[list[str]] = []
    real = Connection.run

    async def run(self: Connection, steps: Sequence[Step], rider: Step | None = None) -> list[PGresult]:
        trips.append([statement.name for statement, _ in steps])
        return await real(self, steps, rider)

    monkeypatch.setattr(Connection, "run", run)
    return trips


async def test_adds_that_begin_together_register_their_line_once(
    storage: PostgresQueueStorage, ran: list[list[str]]
) -> None:
    await asyncio.gather(*(storage.add([new_job(queue="together")]) for _ in range(50)))
    await asyncio.gather(*(storage.add([new_job(queue="together")]) for _ in range(50)))
    assert ran.count(["register_lines"]) == 1
    assert ran.count(["add_one"]) == 100


async def test_an_add_registers_its_line_after_the_registration_that_it_waited_for_failed(
    storage: PostgresQueueStorage, ran: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = storage._engine.lines.register
    fails = iter([True])

    async def register(lines: set[Line]) -> None:
        await asyncio.sleep(0)
        if next(fails, False):
            raise StorageUnavailableError("away")
        await real(lines)

    monkeypatch.setattr(storage._engine.lines, "register", register)
    first, *others = await asyncio.gather(
        *(storage.add([new_job(queue="together")]) for _ in range(3)), return_exceptions=True
    )
    assert isinstance(first, StorageUnavailableError)
    assert not any(isinstance(other, BaseException) for other in others)
    assert ran.count(["register_lines"]) == 2


async def test_a_lone_job_with_a_free_key_takes_one_round_trip(
    storage: PostgresQueueStorage, ran: list[list[str]]
) -> None:
    await storage._engine.lines.register({("default", 0)})
    ran.clear()
    job, twin = new_job(unique_key="k"), new_job(unique_key="k")
    assert await storage.add([job]) == [Added(job.id, True)]
    assert [trip for trip in ran if not trip[0].startswith("notify")] == [["add_keyed"]]
    # Added again, as after a lost answer, and another one.
    assert await storage.add([job]) == [Added(job.id, False)]
    assert await storage.add([twin]) == [Added(job.id, False)]
    assert (await storage.counts("default"))["default"][JobState.PENDING] == 1
    (record,) = await storage.get([job.id])
    assert record is not None
    assert (record.unique_key, record.arguments_json) == ("k", job.arguments)
    await storage.abort([job.id])
    assert await storage.add([job]) == [Added(job.id, False)]
    assert await storage.add([twin]) == [Added(twin.id, True)], "its end released the key"
