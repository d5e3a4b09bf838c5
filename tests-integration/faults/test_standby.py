"""A primary and its standby: the standby's address in the URL, a primary that dies, an unavailable standby."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from cluster import DURABLE, either, set_synchronous, standby_of
from journal import now
from load import PATIENT, Load
from scaling import Scale

from jobq_client import JobQueueClient
from jobq_core import StorageUnavailableError, WaitTimeoutError, open_storage
from jobq_core.errors import StorageReadOnlyError
from jobq_core.states import JobState
from jobq_storage_postgres.testing import ThrowawayPostgres
from jobq_worker import JobQueueWorker

LIMIT = 3.0
"""Time limit of a round trip in seconds, where a test waits until it expires."""


@pytest.fixture
def primary() -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres(settings=DURABLE) as server:
        yield server


@pytest.fixture
def standby(primary: ThrowawayPostgres) -> Iterator[ThrowawayPostgres]:
    with standby_of(primary) as server:
        yield server


async def until(server: ThrowawayPostgres, query: str, seconds: float = 20) -> None:
    """Repeat a query until its answer is true."""
    async with await psycopg.AsyncConnection.connect(server.dsn, autocommit=True) as connection:
        async with asyncio.timeout(seconds):
            while not (await (await connection.execute(query.encode())).fetchone() or (False,))[0]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # the change is in the server


SYNCHRONOUS = "SELECT bool_or(sync_state = 'sync' AND state = 'streaming') FROM pg_stat_replication"


async def make_synchronous(primary: ThrowawayPostgres) -> None:
    with psycopg.connect(primary.dsn, autocommit=True) as admin:
        set_synchronous(admin, "standby")
    await until(primary, SYNCHRONOUS)


async def caught_up(primary: ThrowawayPostgres, standby: ThrowawayPostgres) -> None:
    """Wait until the standby has replayed all commits of the primary."""
    with psycopg.connect(primary.dsn, autocommit=True) as admin:
        row = admin.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    await until(standby, f"SELECT pg_last_wal_replay_lsn() >= '{row[0]}'::pg_lsn")


def promote(standby: ThrowawayPostgres) -> None:
    with psycopg.connect(standby.dsn, autocommit=True) as admin:
        assert admin.execute("SELECT pg_promote(true, 60)").fetchone() == (True,)


async def test_a_standbys_address_is_reported_at_once_and_serves_reads(
    primary: ThrowawayPostgres,
    standby: ThrowawayPostgres,
    load_on: Callable[..., Load],
    report: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from load_jobs import quick

    await open_storage(primary.dsn).migrate()
    load = load_on(primary.dsn)
    (job,) = await load.add([quick(token="first")])
    await caught_up(primary, standby)
    async with JobQueueClient(standby.dsn) as client:
        record = await client.get(job)
        assert record is not None
        assert record.state is JobState.PENDING
        assert [found.id for found in (await client.find(state=JobState.PENDING)).jobs] == [job]
        assert [found.id async for found in client.find_all(kind=quick)] == [job]
        assert (await client.size(), (await client.counts())[JobState.PENDING]) == (1, 1)
        assert await client.storage.workers() == []
        for write in (
            lambda: client.add(quick(token="refused")),
            lambda: client.add_many([quick(token="refused") for _ in range(3)]),
            lambda: client.abort(job),
        ):
            before = time.monotonic()
            with pytest.raises(StorageReadOnlyError, match=r"standby.*target_session_attrs=read-write"):
                await write()
            assert time.monotonic() - before < 2, "at once, whatever the client's `patience`"
    with pytest.raises(StorageReadOnlyError, match="primary"):
        await JobQueueWorker(standby.dsn, jobs=[quick]).start()
    # The command does not retry either, and names the remedy.
    misled = load_on(standby.dsn).worker()
    assert misled.wait(20) != 0
    assert "target_session_attrs=read-write" in misled.output
    # A client that waits on the standby finds the end by polling.
    async with JobQueueClient(standby.dsn) as client:
        with pytest.raises(WaitTimeoutError, match="pending"):
            await client.wait_for(job, timeout=0.5)
        assert "LISTEN" in caplog.text
        waiting = asyncio.create_task(client.wait_for(job, timeout=30))
        worker = load.worker().started()
        assert await waiting == "first"
        await caught_up(primary, standby)
        assert (await client.size(), await client.size(state=JobState.COMPLETED)) == (0, 1)
        assert [known.info.pid for known in await client.storage.workers()] == [worker.pid]
    await load.drained()
    verdict = await load.verdict()
    report("address of a standby", tried=5, **verdict.figures)
    assert verdict.text == ""
    assert worker.alive


async def test_a_standby_that_is_promoted_under_load_has_all_acknowledged_jobs(
    load_on: Callable[..., Load], report: Callable[..., None], scale: Scale, seed: int
) -> None:
    """Repeated failovers: the promoted server gets a standby and dies in turn."""
    tried, longest = scale.times(1, most=4), 0.0
    for round_ in range(tried):
        with ThrowawayPostgres(settings=DURABLE) as primary:
            await open_storage(primary.dsn).migrate()
            with standby_of(primary) as standby:
                await make_synchronous(primary)
                load = load_on(either(primary, standby, time_limit=LIMIT))
                workers = [load.worker().started() for _ in range(2)]
                clients = [
                    load.client(name=f"{round_}-{n}", jobs=300, rate=100, many=20, keys=4, seed=seed + n, **PATIENT)
                    for n in range(2)
                ]
                wanted = 100 * (round_ % 3 + 1)
                await load.until(lambda history, wanted=wanted: len(history.runs) > wanted)
                primary.halt(at_once=True)
                promote(standby)
                longest = max(longest, await load.next_run(now()))
                for client in clients:
                    client.done(120)
                await load.drained()
                verdict = await load.verdict()
                report("failover to a synchronous standby", tried=1, **verdict.figures | {"recovery": longest})
                # The verdict also checks that each lease number was given only once.
                assert verdict.text == ""
                assert verdict.answers == {"acknowledged"}
                assert all(worker.alive for worker in workers)
                for process in (*workers, *clients):
                    process.term()
                    process.wait()
                load.journal.path.unlink()


async def test_a_standby_that_lagged_at_its_promotion_lacks_only_later_changes(
    primary: ThrowawayPostgres,
    standby: ThrowawayPostgres,
    load_on: Callable[..., Load],
    report: Callable[..., None],
    seed: int,
) -> None:
    """No queue can prevent this loss: the primary acknowledged alone, and is gone. Everything else is right."""
    await open_storage(primary.dsn).migrate()
    load = load_on(either(primary, standby, time_limit=LIMIT))
    workers = [load.worker().started() for _ in range(2)]
    early = load.client(name="early", jobs=200, rate=200, seed=seed, patience=300)
    await load.until(lambda history: len(history.runs) > 50)
    early.done(60)
    await caught_up(primary, standby)
    with psycopg.connect(standby.dsn, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET primary_conninfo = ''")
        admin.execute("SELECT pg_reload_conf()")
    await until(primary, "SELECT count(*) = 0 FROM pg_stat_replication")
    late = load.client(name="late", jobs=200, rate=100, seed=seed, patience=300)
    await load.until(lambda history: sum(add.token.startswith("late") for add in history.adds) > 60)
    primary.halt(at_once=True)
    promote(standby)
    promoted = now()
    recovery = await load.next_run(promoted)
    late.done(120)
    await load.drained()
    history, finals = load.history(), {final.token: final for final in await load.finals()}
    lost = {add.token for add in history.adds if add.answer == "acknowledged" and add.token not in finals}
    before = [add.token for add in history.adds if add.token.startswith("early")]
    report(
        "failover to a lagging standby",
        tried=1,
        added=len(history.adds) - len(lost),
        runs=len(history.runs),
        lost=len(lost & set(before)),
        recovery=recovery,
    )
    assert lost, "the primary acknowledged jobs that the standby did not have"
    assert all(token.startswith("late") for token in lost)
    assert all(add.answered < promoted for add in history.adds if add.token in lost)
    assert all(finals[token].state is JobState.COMPLETED for token in before)
    assert {final.state for final in finals.values()} == {JobState.COMPLETED}
    assert all(worker.alive for worker in workers)


async def test_adds_stay_unacknowledged_while_a_synchronous_standby_is_unavailable(
    primary: ThrowawayPostgres,
    standby: ThrowawayPostgres,
    load_on: Callable[..., Load],
    report: Callable[..., None],
    scale: Scale,
    seed: int,
) -> None:
    from load_jobs import quick

    await open_storage(primary.dsn).migrate()
    await make_synchronous(primary)
    load = load_on(f"{primary.dsn}&time_limit={LIMIT}", primary.dsn)
    workers = [load.worker().started() for _ in range(2)]
    client = load.client(jobs=300, rate=100, seed=seed, **PATIENT).started()
    await load.until(lambda history: len(history.runs) > 50)
    standby.halt(at_once=True)
    async with JobQueueClient(load.url, patience=0) as hasty:
        before = time.monotonic()
        with pytest.raises(StorageUnavailableError, match="may or may not have been added"):
            await hasty.add(quick(token="unknown"))
        assert time.monotonic() - before < LIMIT + 20, "the add waits for one round trip only"
        if scale.is_soak:
            await asyncio.sleep(60)
    standby.start()
    recovery = await load.next_run(now())
    client.done(120)
    await load.drained()
    verdict = await load.verdict()
    report("synchronous standby unavailable", tried=1, **verdict.figures | {"recovery": recovery})
    assert verdict.text == ""
    assert all(worker.alive for worker in workers)
