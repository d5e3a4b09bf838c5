"""Low-water marks: no job appears below one, or maintenance finds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio

from jobq_core.states import Ending
from jobq_core.storage import UNKNOWN_KIND, WAITING_TOPIC, Claim, Line, Settlement
from jobq_core.testing import new_job, register_worker
from jobq_storage_postgres import PostgresQueueStorage, watermarks

QUEUES = ("default",)


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await storage.migrate()
    async with storage:
        yield storage


async def claim(storage: PostgresQueueStorage, worker: UUID) -> list[UUID]:
    result = await storage.settle_and_claim(worker, claim=Claim.of(*QUEUES, limit=100))
    await storage.settle_and_claim(worker, [Settlement(job.id, job.lease, Ending.COMPLETE) for job in result.claimed])
    return [job.id for job in result.claimed]


async def advance(storage: PostgresQueueStorage, times: int = 2) -> int:
    """Observe the line some times, and return its mark."""
    for _ in range(times):
        await storage._engine.watermarks.advance()
    return storage._engine.watermarks._marks.get(("default", 0), 0)


async def test_a_mark_follows_the_claims(storage: PostgresQueueStorage) -> None:
    worker = (await register_worker(storage)).id
    await storage.add([new_job() for _ in range(10)])
    await claim(storage, worker)
    await storage.add([new_job()])
    assert await advance(storage) == 10


async def test_the_mark_of_an_empty_line_reaches_the_last_position(storage: PostgresQueueStorage) -> None:
    worker = (await register_worker(storage)).id
    await storage.add([new_job() for _ in range(10)])
    await claim(storage, worker)
    assert await advance(storage, 3) == 10
    (added,) = await storage.add([new_job()])
    assert await claim(storage, worker) == [added.id]


async def test_the_first_job_of_all_is_not_skipped(storage: PostgresQueueStorage) -> None:
    worker = (await register_worker(storage)).id
    assert await advance(storage, 4) == 0
    (added,) = await storage.add([new_job()])
    assert await claim(storage, worker) == [added.id]


async def test_a_mark_waits_for_a_transaction_that_may_commit_a_lower_position(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    worker = (await register_worker(storage)).id
    late = new_job()
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as slow:
        await storage.add([late], connection=slow)
        await storage.add([new_job() for _ in range(5)])
        assert len(await claim(storage, worker)) == 5
        assert await advance(storage, 5) == 0
        await slow.commit()
        assert await claim(storage, worker) == [late.id]
        assert await advance(storage, 3) == 6


NUMBERED = """
CREATE FUNCTION {0}.is_numbered() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF pg_current_xact_id_if_assigned() IS NULL THEN
            RAISE 'a position was drawn by a transaction without a number';
        END IF;
        RETURN new;
    END
$$;
CREATE TRIGGER numbered BEFORE INSERT ON {0}.ready FOR EACH ROW EXECUTE FUNCTION {0}.is_numbered();
CREATE TRIGGER numbered BEFORE INSERT ON {0}.waiting FOR EACH ROW EXECUTE FUNCTION {0}.is_numbered();
"""


async def test_a_transaction_that_draws_a_position_has_its_number_by_then(
    storage: PostgresQueueStorage, postgres_dsn: str, postgres_schema: str
) -> None:
    """Otherwise an observation could miss a transaction that adds below what it sees, and a mark would skip the job."""
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        await admin.execute(NUMBERED.format(postgres_schema).encode())
    worker = await register_worker(storage)
    # The very first draw gets a number in any case: it logs that 32 positions may be drawn.
    await storage.add([new_job(), new_job(run_at=0.001)])
    for options in ({}, {"run_at": 3600.0}, {"unique_key": "k"}):
        await storage.add([new_job(**options)])
    await storage.promote()
    jobs = (await storage.settle_and_claim(worker.id, claim=Claim.of(*QUEUES, limit=100))).claimed
    assert len(jobs) == 4
    assert (await storage.disable([jobs[3].id]))[0].asked
    endings = (Ending.FAIL, Ending.RETRY, Ending.RELEASE, Ending.DISABLE)
    settled = [Settlement(job.id, job.lease, ending) for job, ending in zip(jobs, endings, strict=True)]
    await storage.settle_and_claim(worker.id, settled)
    assert (await storage.retry([jobs[0].id]))[0].changed
    assert (await storage.enable([jobs[3].id]))[0].changed
    (blocked,) = (await storage.settle_and_claim(worker.id, claim=Claim.of(*QUEUES, limit=1))).claimed
    await storage.settle_and_claim(
        worker.id, [Settlement(blocked.id, blocked.lease, Ending.SUSPEND, reason=UNKNOWN_KIND)]
    )
    knows = Claim.of(*QUEUES, limit=100, kinds=((blocked.kind, "1"),))
    taken = (await storage.settle_and_claim(worker.id, claim=knows)).claimed
    assert len(taken) == 4
    await storage.deregister(worker.id)
    await storage.rescue()
    assert (await storage.disable([taken[0].id]))[0].changed


async def test_a_claim_that_is_rolled_back_leaves_its_jobs_above_the_mark(
    storage: PostgresQueueStorage, postgres_dsn: str, postgres_schema: str
) -> None:
    worker = (await register_worker(storage)).id
    added = await storage.add([new_job() for _ in range(3)])
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as other:
        await other.execute(f"DELETE FROM {postgres_schema}.ready WHERE position <= 2")
        assert await claim(storage, worker) == [added[2].id]
        assert await advance(storage, 5) == 0
        await other.rollback()
    assert await claim(storage, worker) == [added[0].id, added[1].id]


@pytest.mark.parametrize("by", ["promotion", "rescue"])
async def test_maintenance_finds_a_job_that_a_mark_skipped(
    storage: PostgresQueueStorage, postgres_dsn: str, postgres_schema: str, by: str
) -> None:
    now = 0.0
    storage._engine.watermarks._clock = lambda: now
    worker = (await register_worker(storage)).id
    late = new_job()
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as slow:
        await storage.add([late], connection=slow)
        await storage.add([new_job() for _ in range(5)])
        assert len(await claim(storage, worker)) == 5
        assert await advance(storage, 2) == 0
        now += watermarks.WRITER_SECONDS
        async with storage.subscribe([WAITING_TOPIC]) as maintenance:
            assert await advance(storage, 1) == 6
            assert await maintenance.wait(10) == {WAITING_TOPIC}
        for duty in (storage.promote, storage.rescue):
            next_in = (await duty()).next_in
            assert next_in is not None
            assert next_in <= 0.5, "a job may appear below the mark at any time"
        await slow.commit()
    assert await claim(storage, worker) == [], "it lies below the mark"
    await (storage.promote if by == "promotion" else storage.rescue)()
    assert await claim(storage, worker) == [late.id]
    assert (await storage.promote()).next_in is None
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        rows = await (await connection.execute(f"SELECT count(*) FROM {postgres_schema}.skipped")).fetchall()
    assert rows == [(0,)]


async def test_marks_start_again_after_a_lost_connection(storage: PostgresQueueStorage) -> None:
    worker = (await register_worker(storage)).id
    await storage.add([new_job() for _ in range(10)])
    await claim(storage, worker)
    assert await advance(storage, 3) == 10
    storage._engine.pool.lost += 1
    await storage._engine.watermarks.lines((Line("default"),))
    assert storage._engine.watermarks._marks == {}


async def test_marks_start_again_when_positions_went_back(
    storage: PostgresQueueStorage, postgres_dsn: str, postgres_schema: str
) -> None:
    worker = (await register_worker(storage)).id
    await storage.add([new_job() for _ in range(10)])
    await claim(storage, worker)
    assert await advance(storage, 3) == 10
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        await connection.execute(f"ALTER SEQUENCE {postgres_schema}.position RESTART WITH 3")
    assert await advance(storage, 1) == 0
    (added,) = await storage.add([new_job()])
    assert await claim(storage, worker) == [added.id]


async def test_marks_follow_workers_of_other_queues_too(storage: PostgresQueueStorage) -> None:
    now = 0.0
    storage._engine.watermarks._clock = lambda: now
    storage._engine.watermarks._advanced_at = now
    worker = (await register_worker(storage, queues=("default", "other"))).id
    for _ in range(8):
        await storage.add([new_job(), new_job(queue="other")])
        for queue in ("default", "other"):
            now += watermarks.INTERVAL_SECONDS
            assert len((await storage.settle_and_claim(worker, claim=Claim.of(queue, limit=10))).claimed) == 1
            await storage._engine.watermarks.close()
    # The lowest position that two observations saw is below the mark: all but the last few claims are.
    assert storage._engine.watermarks._marks["default", 0] > 8
    assert storage._engine.watermarks._marks["other", 0] > 8


async def test_a_server_that_is_behind_and_took_over_unnoticed_starves_no_job(
    postgres_dsn: str, postgres_schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a pooler the connection outlives the server; the sequence that goes back stands for a standby's."""
    await PostgresQueueStorage(postgres_dsn, schema=postgres_schema).migrate()
    async with PostgresQueueStorage(postgres_dsn, schema=postgres_schema) as storage:
        worker = (await register_worker(storage)).id
        await storage.add([new_job() for _ in range(10)])
        await claim(storage, worker)
        assert await advance(storage, 3) == 10
        await storage._engine.watermarks.close()
        async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
            await admin.execute(f"SELECT setval('{postgres_schema}.position', 1)".encode())
        (added,) = await storage.add([new_job()])
        assert await claim(storage, worker) == []
        monkeypatch.setattr(watermarks, "VERIFY_SECONDS", 0.0)
        assert await claim(storage, worker) == []  # a claim without a job starts a verification
        await storage._engine.watermarks.close()
        assert await claim(storage, worker) == [added.id]
