"""Many at once on the same jobs and keys: no deadlock comes out, no job is lost, none runs twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from psycopg import conninfo

from jobq_core.errors import UniqueKeyBusyError
from jobq_core.records import Progress
from jobq_core.states import FINISHED, Ending, JobState
from jobq_core.storage import Added, Claim, NewJob, ProgressReport, Settlement
from jobq_core.testing import ERROR, new_job, register_worker, settle_all
from jobq_core.testing.contract.storm import Storm
from jobq_storage_postgres import PostgresQueueStorage


@pytest_asyncio.fixture
async def storages(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[list[PostgresQueueStorage]]:
    """Four, as four processes would have them."""
    storages = [PostgresQueueStorage(postgres_dsn, schema=postgres_schema, pool_size=4) for _ in range(4)]
    await storages[0].migrate()
    for storage in storages:
        await storage.open()
    yield storages
    for storage in storages:
        await storage.close()


async def patiently(storage: PostgresQueueStorage, jobs: list[NewJob]) -> list[Added]:
    """Add jobs; on a machine that stalls, a transaction may hold a key for longer than others wait for it."""
    while True:
        try:
            return await storage.add(jobs)
        except UniqueKeyBusyError:
            continue


async def test_unique_adds_against_batches_that_settle_them(storages: list[PostgresQueueStorage]) -> None:
    """Batches take and free the same few keys in whatever order; each job that was made runs once."""
    made: set[UUID] = set()
    runs: Counter[UUID] = Counter()
    adding = len(storages) * 2

    async def add(storage: PostgresQueueStorage, seed: int) -> None:
        nonlocal adding
        draw = random.Random(seed)
        for _ in range(25):
            jobs = [new_job(unique_key=f"k{draw.randint(0, 20)}") for _ in range(10)]
            answers = await patiently(storage, jobs)
            for job, added in zip(jobs, answers, strict=True):
                assert added.created is (added.id == job.id)
            made.update(added.id for added in answers if added.created)
        adding -= 1

    async def work(storage: PostgresQueueStorage, seed: int) -> None:
        draw = random.Random(seed)
        worker = (await register_worker(storage)).id
        done: list[Settlement] = []
        while True:
            finished = not adding
            exchange = await settle_all(storage, worker, done, Claim.of("default", limit=10))
            assert None not in exchange.settled
            runs.update(job.id for job in exchange.claimed)
            done = [
                Settlement(job.id, job.lease, draw.choice([Ending.COMPLETE, Ending.FAIL]), error=ERROR)
                for job in exchange.claimed
            ]
            draw.shuffle(done)
            if finished and not done:
                return

    async with asyncio.timeout(50):
        await asyncio.gather(
            *(add(storage, seed) for seed, storage in enumerate(storages * 2)),
            *(work(storage, seed) for seed, storage in enumerate(storages)),
        )
    assert set(runs) == made
    assert set(runs.values()) == {1}
    counts = (await storages[0].counts("default"))["default"]
    assert sum(counts.values()) == counts[JobState.COMPLETED] + counts[JobState.FAILED] == len(made)


async def test_control_against_exchanges(storages: list[PostgresQueueStorage]) -> None:
    """Jobs are aborted, disabled, enabled, retried and reported on while they run: no answer is untrue."""
    first = storages[0]
    jobs = [new_job(max_attempts=1000, unique_key=f"k{n}" if n % 3 == 0 else None) for n in range(60)]
    await first.add(jobs)
    ids = [job.id for job in jobs]
    over = asyncio.Event()

    async def control(storage: PostgresQueueStorage, seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(60):
            some = draw.sample(ids, 20)
            operation = draw.choice([storage.abort, storage.disable, storage.enable, storage.retry])
            for change in await operation(some):
                assert change.before is not None, "none of them is ever gone"
                assert change.after is not None

    async def work(storage: PostgresQueueStorage, seed: int) -> None:
        draw = random.Random(seed)
        worker = (await register_worker(storage)).id
        done: list[Settlement] = []
        while not over.is_set() or done:
            exchange = await settle_all(storage, worker, done, None if over.is_set() else Claim.of("default", limit=10))
            assert None not in exchange.settled
            reports = [
                ProgressReport(id=job.id, lease=job.lease, progress=Progress(percent=draw.randint(0, 100)))
                for job in exchange.claimed
            ]
            assert all(await storage.progress(worker, reports))
            endings = [Ending.COMPLETE, Ending.FAIL, Ending.RETRY, Ending.RELEASE, Ending.ABORT]
            done = [Settlement(job.id, job.lease, draw.choice(endings), error=ERROR) for job in exchange.claimed]

    async def controls() -> None:
        await asyncio.gather(*(control(storage, seed) for seed, storage in enumerate(storages)))
        over.set()

    async with asyncio.timeout(50):
        await asyncio.gather(controls(), *(work(storage, seed) for seed, storage in enumerate(storages)))
    records = await first.get(ids)
    assert None not in records
    counts = (await first.counts("default"))["default"]
    assert counts == {
        state: sum(record is not None and record.state is state for record in records) for state in JobState
    }
    # Exactly the unfinished jobs hold their keys.
    await first.delete([record.id for record in records if record is not None and record.state in FINISHED])
    left = [record for record in records if record is not None and record.state not in FINISHED and record.unique_key]
    again = await first.add([new_job(unique_key=f"k{n}") for n in range(0, 60, 3)])
    assert sum(not added.created for added in again) == len(left)


async def test_the_same_jobs_added_at_once_in_other_orders(storages: list[PostgresQueueStorage]) -> None:
    jobs = [new_job(unique_key=f"k{n}" if n % 2 else None) for n in range(100)]

    async def add(storage: PostgresQueueStorage, seed: int) -> list[UUID]:
        mine: list[NewJob] = random.Random(seed).sample(jobs, len(jobs))
        return [added.id for added in await storage.add(mine) if added.created]

    async with asyncio.timeout(50):
        made = await asyncio.gather(*(add(storage, seed) for seed, storage in enumerate(storages * 3)))
    assert sorted(job_id for some in made for job_id in some) == sorted(job.id for job in jobs)
    assert (await storages[0].counts("default"))["default"][JobState.PENDING] == 100


async def test_the_same_runs_settled_at_once_in_opposite_orders_meet_no_deadlock(
    storages: list[PostgresQueueStorage], postgres_dsn: str
) -> None:
    """As by a worker whose connection broke, and that sends its settlements again while the first ones go on."""
    one, other, *_ = storages
    for storage in storages:
        await storage.close()
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        before = await deadlocks(admin)
        async with one, other:
            worker = await register_worker(one)
            for ending, state in ((Ending.COMPLETE, JobState.COMPLETED), (Ending.FAIL, JobState.FAILED)) * 3:
                await one.add([new_job() for _ in range(1000)])
                claimed = (await one.settle_and_claim(worker.id, (), Claim.of("default", limit=1000))).claimed
                runs = [Settlement(job.id, job.lease, ending, result=b"1", error=ERROR) for job in claimed]
                answers = await asyncio.gather(
                    settle_all(one, worker.id, runs), settle_all(other, worker.id, runs[::-1])
                )
                assert [answer.settled for answer in answers] == [[state] * 1000] * 2
        assert await deadlocks(admin) == before


async def test_a_serialization_failure_is_repeated_and_not_reported(
    storages: list[PostgresQueueStorage], postgres_dsn: str
) -> None:
    """The database may have been told to isolate all transactions fully."""
    storage = storages[0]
    worker = (await register_worker(storage)).id
    added = await storage.add([new_job() for _ in range(40)])
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        await admin.execute("ALTER ROLE postgres SET default_transaction_isolation = 'serializable'")
        try:
            strict = [PostgresQueueStorage(postgres_dsn, schema=storage.schema, prepared=False) for _ in range(4)]
            for each in strict:
                await each.open()
            claims = await asyncio.gather(
                *(each.settle_and_claim(worker, claim=Claim.of("default", limit=10)) for each in strict)
            )
            for each in strict:
                await each.close()
        finally:
            await admin.execute("ALTER ROLE postgres RESET default_transaction_isolation")
    claimed = [job.id for exchange in claims for job in exchange.claimed]
    assert sorted(claimed) == sorted(a.id for a in added)


@pytest.mark.parametrize("count", [1, 7])
async def test_claimers_at_once_share_the_jobs(storages: list[PostgresQueueStorage], count: int) -> None:
    workers = [(await register_worker(storage)).id for storage in storages]
    added = await storages[0].add([new_job() for _ in range(count)])
    answers = await asyncio.gather(
        *(
            storage.settle_and_claim(worker, claim=Claim.of("default", limit=2))
            for storage, worker in zip(storages, workers, strict=True)
            for _ in range(4)
        )
    )
    claimed = [job.id for exchange in answers for job in exchange.claimed]
    assert sorted(claimed) == sorted(a.id for a in added)


async def test_a_storm_of_every_operation_meets_no_deadlock(
    storages: list[PostgresQueueStorage], postgres_dsn: str
) -> None:
    """Each would be repeated, and cost a second (here less, so that there is time for many): all lock in one order."""
    schema = storages[0].schema
    for storage in storages:
        await storage.close()
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as admin:
        before = await deadlocks(admin)
        hasty = conninfo.make_conninfo(postgres_dsn, options="-c deadlock_timeout=20ms")
        storms = [PostgresQueueStorage(hasty, schema=schema) for _ in storages]
        for storage in storms:
            await storage.open()
        for seed in range(4):
            await Storm(seed, *storms).rage()
        for storage in storms:
            await storage.close()
        assert await deadlocks(admin) == before


async def deadlocks(admin: psycopg.AsyncConnection[tuple[int]]) -> int:
    """Count the deadlocks there were, once the connections that met them are gone: they tell at their end."""
    async with asyncio.timeout(30):
        others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'jobq'"
        while await (await admin.execute(others)).fetchone() != (0,):
            pass
    cursor = await admin.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    row = await cursor.fetchone()
    assert row is not None
    return row[0]
