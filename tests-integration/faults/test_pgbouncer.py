"""PgBouncer in transaction mode: what a session could matter to, and faults that only a pooler causes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio
from comparison.parties import PostgresSchema
from load import Load
from pooler import Pooler
from scaling import Scale

from jobq_core.storage import FINISHED_TOPIC, QueueStorage
from jobq_core.testing import add_job
from jobq_core.testing.contract.adding import AddingContract
from jobq_core.testing.contract.bulk import BulkContract
from jobq_core.testing.contract.bulk_operations import BulkOperationsContract
from jobq_core.testing.contract.children import ChildrenContract
from jobq_core.testing.contract.claiming import ClaimingContract
from jobq_core.testing.contract.fencing import FencingContract
from jobq_core.testing.contract.follow_ups import FollowUpsContract
from jobq_core.testing.contract.leadership import LeadershipContract
from jobq_core.testing.contract.life import LifeContract
from jobq_core.testing.contract.notifications import NotificationsContract
from jobq_core.testing.contract.settling import SettlingContract
from jobq_core.testing.contract.storm import StormContract
from jobq_core.testing.contract.unique import UniqueContract
from jobq_core.testing.contract.workers import WorkersContract
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.testing import ThrowawayPostgres


@pytest.fixture(scope="module")
def pooler(postgres_server: ThrowawayPostgres) -> Iterator[Pooler]:
    with Pooler(postgres_server.dsn) as pooler:
        yield pooler


@pytest.fixture(scope="module")
def name() -> str:
    """The schema of all tests of this file: made once, and emptied for each test."""
    return f"jobq_{uuid.uuid4().hex[:12]}"


@pytest_asyncio.fixture
async def schema(postgres_server: ThrowawayPostgres, name: str) -> AsyncIterator[PostgresSchema]:
    schema = PostgresSchema(postgres_server.dsn, name)
    await schema.make()
    await schema.empty()
    await schema.let_clock_run()
    yield schema
    await schema.close()


class TestPooledStorage(
    LifeContract,
    AddingContract,
    UniqueContract,
    ClaimingContract,
    SettlingContract,
    FencingContract,
    ChildrenContract,
    FollowUpsContract,
    WorkersContract,
    LeadershipContract,
    NotificationsContract,
    BulkContract,
    BulkOperationsContract,
    StormContract,
):
    """The part of the contract where a session could matter, since a pooler gives each transaction another one.

    That is: opening, closing and cancelling; transactions of several round trips, one behind another, or with a
    notification; locks; connections of heartbeats; large exchanges. Every other operation is one round trip in one
    transaction, alike for the pooler: `test_nth_statement` runs each as behind one. Notifications use a direct
    connection, since a pooler does not forward them.
    """

    @pytest_asyncio.fixture
    async def storage(self, pooler: Pooler, schema: PostgresSchema) -> AsyncIterator[PostgresQueueStorage]:
        self._pooled, self._schema = pooler.dsn, schema
        self._moved = 0.0
        storage = PostgresQueueStorage(pooler.dsn, schema=schema.schema, listen_dsn=schema.dsn)
        async with storage:
            yield storage
            assert all(connection.pooled for connection, _ in storage._engine.pool._idle), (
                "the pooler was not recognised"
            )

    async def second(self, storage: QueueStorage) -> QueueStorage:
        assert isinstance(storage, PostgresQueueStorage)
        other = PostgresQueueStorage(self._pooled, schema=storage.schema, listen_dsn=self._schema.dsn)
        await other.open()
        return other

    async def advance(self, storage: QueueStorage, seconds: float) -> None:
        self._moved += seconds
        await self._schema.let_clock_run(self._moved)


@pytest.fixture
def own_database(postgres_url: str) -> Iterator[tuple[Pooler, str]]:
    """A pooler for this test alone, and the direct URL of the same empty database."""
    with Pooler(postgres_url) as pooler:
        yield pooler, postgres_url


async def test_migrations_work_through_the_pooler(own_database: tuple[Pooler, str]) -> None:
    pooler, _ = own_database
    storage = PostgresQueueStorage(pooler.dsn)
    assert await storage.migrate()
    assert await storage.migrate() == []
    async with storage:
        assert await storage.counts() == {}


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_notifications_pass_a_pooler_in_session_mode_only(
    postgres_url: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Pooler(postgres_url, mode) as pooler:
        storage = PostgresQueueStorage(pooler.dsn)
        await storage.migrate()
        async with (
            storage,
            PostgresQueueStorage(postgres_url) as other,
            storage.subscribe(["warm"]) as warm,
            storage.subscribe([FINISHED_TOPIC]) as finished,
        ):
            receives = mode == "session"
            # All subscriptions are notified when it turns out that the listener receives them.
            assert await warm.wait(5 if receives else 2) == ({"warm"} if receives else frozenset())
            assert await finished.wait(0) == ({FINISHED_TOPIC} if receives else frozenset())
            await other.delete([await add_job(other)])
            assert await finished.wait(5 if receives else 1) == ({FINISHED_TOPIC} if receives else frozenset())
    assert ("through a pooler, which passes no notifications on" in caplog.text) is not receives


async def test_a_pooler_that_crashes_under_load_loses_nothing(
    own_database: tuple[Pooler, str], load_on: Callable[..., Load], report: Callable[..., None], seed: int, scale: Scale
) -> None:
    pooler, direct = own_database
    await PostgresQueueStorage(direct).migrate()
    # There are no notifications: without listen_dsn everything is found by polling.
    load = load_on(pooler.dsn, direct)
    workers = [load.worker().started() for _ in range(2)]
    jobs, crashes = scale.times(300, least=150), scale.times(3)
    client = load.client(jobs=jobs, rate=100, many=10, keys=5, wait=True, seed=seed).started()
    for crash in range(crashes):
        await load.until(lambda history, crash=crash: len(history.adds) > jobs * (crash + 0.5) / (crashes + 1))
        for process in [client, *workers]:
            process.cut_off()
        pooler.stop()
        pooler.start()
    client.done(60)
    await load.drained()
    verdict = await load.verdict()
    report("PgBouncer killed under load", tried=crashes, **verdict.figures)
    assert verdict.text == ""
    assert all(worker.alive for worker in workers)
