"""Herds: many jobs fail, many leases are lost, many workers start, or many clients wait, all at once. Counts of
transactions per job or per worker show that the database's load stays bounded; no test measures time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest
from bad_jobs import sound
from scaling import Scale

from jobq_client import JobQueueClient
from jobq_core import Backoff, JobContext, JobState, QueueStorage, RetryPolicy, job, open_storage
from jobq_core.storage import Claim, JobFilter
from jobq_core.testing import new_job, register_worker
from jobq_storage_postgres.database import Database
from jobq_storage_postgres.testing import ThrowawayPostgres
from jobq_storage_sqlite.transaction import Transaction
from jobq_worker import JobQueueWorker

TRANSACTIONS = "transactions"
SPREAD = 4.0
"""Seconds over which the retries of jobs that failed at once are spread."""


@job(max_attempts=3, retry=RetryPolicy(backoff=Backoff(base=SPREAD, maximum=SPREAD)))
async def fails_once(context: JobContext, number: int) -> int:
    if context.attempt == 1:
        raise ConnectionError("the service is away")
    return number


class Transactions:
    """Counts the transactions of this process on either database."""

    def __init__(self) -> None:
        self.made = 0


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> Transactions:
    counted = Transactions()

    def count(cls: type[Any], name: str) -> None:
        inner = getattr(cls, name)

        def counting(*args: Any, **named: Any) -> Any:
            counted.made += 1
            return inner(*args, **named)

        monkeypatch.setattr(cls, name, counting)

    count(Database, "run")
    count(Database, "transact")
    count(Transaction, "__init__")
    return counted


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 90) -> None:
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110  (other connections send no event)
            await asyncio.sleep(0.1)


async def test_retries_of_jobs_that_fail_at_once_are_spread_and_cost_few_transactions(
    migrated_url: str,
    transactions: Transactions,
    scale: Scale,
    report: Callable[..., None],
    cost: Callable[..., None],
) -> None:
    count = scale.times(10_000, least=10_000, most=50_000)
    async with JobQueueClient(migrated_url) as client:
        await client.add_many([fails_once(number) for number in range(count)])
        before = transactions.made
        async with JobQueueWorker(migrated_url, jobs=[fails_once], concurrency=100) as worker:

            async def done() -> bool:
                return (await client.counts())[JobState.COMPLETED] == count

            drawn, waited = [], []
            await until(done, scale.times(120, least=120, most=600))
            made = transactions.made - before
        runs = worker.pool_stats().total  # once it has all answers: the storage knows of a completion before it does
        ids = [found.id async for found in client.find_all(page_size=1000)]
        pages = [await client.storage.get(ids[start : start + 1000]) for start in range(0, len(ids), 1000)]
        for record in itertools.chain(*pages):
            assert record is not None
            assert (record.state, record.attempt, len(record.attempts)) == (JobState.COMPLETED, 2, 1)
            assert record.run_at is not None
            assert record.started_at is not None
            failed_at = record.attempts[0].finished_at
            drawn.append((record.run_at - failed_at).total_seconds())
            waited.append((record.started_at - failed_at).total_seconds())
    report(
        f"jobs that fail at once ({migrated_url.partition(':')[0]})",
        tried=count,
        added=count,
        runs=runs.finished,
        lost=count - len(drawn),
        recovery=max(waited),
    )
    # The delays are uniform between 0 and SPREAD.
    quarters = Counter(int(delay / SPREAD * 4) for delay in drawn)
    assert all(0.2 * count < quarters[quarter] < 0.3 * count for quarter in range(4)), quarters
    assert runs.finished == 2 * count
    # All jobs run twice. The retries come in small batches, each of which is promoted, claimed and marked as started.
    cost(f"jobs that fail at once ({migrated_url.partition(':')[0]})", made, TRANSACTIONS, most=0.4 * count, per=count)


def age(url: str) -> None:
    """Make the heartbeats of all workers expire."""
    if url.startswith("sqlite"):
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            file.execute("UPDATE jobq_worker SET beat_uptime = beat_uptime - lost_after")
    else:
        with psycopg.connect(url) as database:
            database.execute("UPDATE jobq.worker SET expires_at = now() - interval '1 second'")


async def test_leases_lost_at_once_are_rescued_worker_by_worker_and_only_once(
    migrated_url: str,
    transactions: Transactions,
    scale: Scale,
    report: Callable[..., None],
    cost: Callable[..., None],
) -> None:
    count = scale.times(1000, least=100, most=5000)
    async with open_storage(migrated_url) as storage, open_storage(migrated_url) as other:
        jobs = [new_job() for _ in range(2 * count)]
        await storage.add(jobs)
        for _ in range(count):
            worker = await register_worker(storage)
            assert len((await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=2))).claimed) == 2
        await asyncio.to_thread(age, migrated_url)
        before = transactions.made
        rescued = await asyncio.gather(*(each.rescue() for each in [storage, other] * 2))
        made = transactions.made - before
        lost = [worker.worker for some in rescued for worker in some.workers]
        back = Counter(job.id for some in rescued for worker in some.workers for job in worker.jobs)
        counts = (await storage.counts("default"))["default"]
        report(
            f"leases lost at once ({migrated_url.partition(':')[0]})",
            tried=count,
            added=len(jobs),
            lost=len(jobs) - counts[JobState.PENDING],
            doubled=sum(times - 1 for times in back.values()),
        )
        assert len(set(lost)) == count
        assert set(back) == {job.id for job in jobs}
        assert set(back.values()) == {1}
        assert counts[JobState.PENDING] == len(jobs)
        # Each of four callers tries each lost worker once, and notifies.
        cost(
            f"leases lost at once ({migrated_url.partition(':')[0]})",
            made,
            TRANSACTIONS,
            most=4 * count + 12,
            per=len(jobs),
        )


@pytest.fixture(scope="module")
def counting_server() -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres() as server:
        yield server


async def commits(dsn: str) -> int:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        row = await (
            await connection.execute("SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database")
        ).fetchone()
        assert row is not None
        return int(row[0])


async def test_200_workers_that_start_at_once_share_a_small_pool_and_cost_few_transactions(
    postgres_url: str, transactions: Transactions, report: Callable[..., None], cost: Callable[..., None]
) -> None:
    count, jobs = 200, 2000
    await open_storage(postgres_url).migrate()
    async with open_storage(f"{postgres_url}{'&' if '?' in postgres_url else '?'}pool_size=5") as storage:
        async with JobQueueClient(storage) as client, AsyncExitStack() as stack:
            await client.add_many([sound(number) for number in range(jobs)])
            before = transactions.made
            workers = [JobQueueWorker(storage, jobs=[sound], concurrency=2) for _ in range(count)]
            await asyncio.gather(*(stack.enter_async_context(worker) for worker in workers))

            async def done() -> bool:
                return await client.size(state=JobState.COMPLETED) == jobs

            await until(done)
            made = transactions.made - before
            assert len(await storage.workers()) == count
            assert sum(worker.health().leads for worker in workers) == 1
            async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
                cursor = await connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                )
                ((connections,),) = await cursor.fetchall()
    # Once they have all answers: the storage knows of a completion before its worker does.
    runs = sum(worker.pool_stats().total.completed for worker in workers)
    report("200 workers that start at once", tried=count, added=jobs, runs=runs, lost=jobs - runs)
    assert runs == jobs
    cost(
        "200 workers that start at once",
        connections,
        "connections: a pool of 5, listeners, the test's",
        most=8,
        per=count,
    )
    # Each worker registers, asks for the leadership, and claims jobs at its polls and at notifications.
    cost("200 workers that start at once", made, TRANSACTIONS, most=25 * count + 2 * jobs, per=count)


async def test_processes_that_start_at_once_cost_few_transactions_each(
    counting_server: ThrowawayPostgres,
    children: Any,
    tmp_path: Any,
    scale: Scale,
    report: Callable[..., None],
    cost: Callable[..., None],
) -> None:
    count = 8 if scale.is_smallest else 20
    (tmp_path / "herd_jobs.py").write_text("from jobq_core import job\n@job()\ndef f() -> None: ...\n")
    url = counting_server.dsn
    await open_storage(url).migrate()
    before = await commits(url)
    started = [children.jobq("worker", "herd_jobs", "--storage", url) for _ in range(count)]
    await asyncio.gather(*(asyncio.to_thread(child.wait_for_line, "started", 60) for child in started))
    async with open_storage(url) as storage:
        assert len(await storage.workers()) == count
    for child in started:
        child.terminate()
    codes = await asyncio.gather(*(asyncio.to_thread(child.wait, 60) for child in started))
    async with open_storage(url) as storage:
        assert await storage.workers() == []
    made = await commits(url) - before  # the server counts a session reliably only after its end
    report(f"{count} processes that start at once", tried=count)
    assert codes == [0] * count
    # The count covers each process from start to stop.
    herd = f"{count} processes that start at once"
    cost(herd, made, "transactions, as the server counts", most=150 * count, per=count)


async def test_10_000_waiters_share_their_polls(
    migrated_url: str, transactions: Transactions, report: Callable[..., None], cost: Callable[..., None]
) -> None:
    count = 10_000
    async with JobQueueClient(migrated_url) as client:
        handles = await client.add_many([sound(number) for number in range(count)])
        waiters = [asyncio.create_task(client.wait_for(handle, timeout=100)) for handle in handles]
        before = transactions.made
        async with JobQueueWorker(migrated_url, jobs=[sound], concurrency=100):
            results = await asyncio.gather(*waiters)
        made = transactions.made - before
    report(f"10,000 waiters ({migrated_url.partition(':')[0]})", tried=count, added=count, runs=count)
    assert results == [*range(count)]
    # The count covers waiters and worker.
    cost(f"10,000 waiters ({migrated_url.partition(':')[0]})", made, TRANSACTIONS, most=0.1 * count, per=count)


async def test_control_of_more_jobs_than_one_statement_takes_works_beside_clear_and_workers(
    postgres_url: str, seed: int, scale: Scale, report: Callable[..., None], cost: Callable[..., None]
) -> None:
    dice = random.Random(seed)
    storage: QueueStorage = open_storage(postgres_url)
    await storage.migrate()
    rounds, count = scale.times(1, most=5), 12_000
    async with storage:
        for _ in range(rounds):
            jobs = [new_job(run_at=3600.0 if dice.random() < 0.3 else None) for _ in range(count)]
            for start in range(0, count, 4000):
                await storage.add(jobs[start : start + 4000])
            ids = [each.id for each in jobs]
            worker = await register_worker(storage)

            async def work(worker: Any = worker) -> int:
                claimed = 0
                for _ in range(10):
                    claimed += len(
                        (await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=200))).claimed
                    )
                return claimed

            def some(ids: list[Any] = ids) -> list[Any]:
                return dice.sample(ids, 9000)

            await asyncio.gather(
                storage.abort(some()), storage.disable(some()), storage.enable(some()), storage.retry(some()),
                storage.delete(some()[:3000]), work(), storage.clear("default"), storage.abort(some()),
            )  # fmt: skip
            await storage.clear("default")
            left = (await storage.find(JobFilter())).jobs
            counts = await storage.counts()
            assert left == []
            assert not any(sum(states.values()) for states in counts.values()), counts
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        cursor = await connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        ((deadlocks,),) = await cursor.fetchall()
        for table in ("job", "waiting", "ready", "running", "outcome", "attempt", "unique_key"):
            ((rows,),) = await (await connection.execute(f"SELECT count(*) FROM jobq.{table}")).fetchall()  # type: ignore[arg-type]
            assert rows == 0, f"{rows} rows are left in {table}"
    report("large controls and clear at once", tried=7 * rounds, added=count * rounds)
    # Each transaction with a deadlock is repeated.
    cost("large controls and clear at once", deadlocks, "deadlocks", most=20 * rounds, per=count * rounds)
