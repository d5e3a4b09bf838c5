"""A PostgreSQL server that crashes, stops, does not answer, cuts or refuses connections, or accepts no writes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from journal import now
from load import ALL_KINDS, HASTY, Load, Process
from load_jobs import quick
from proxy import Cut, Proxy
from scaling import Scale
from watched import SLACK, watched

from jobq_client import JobQueueClient
from jobq_core import StorageUnavailableError, open_storage
from jobq_core.errors import StorageError, StorageReadOnlyError
from jobq_core.records import WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, Settlement
from jobq_core.testing import add_job, claim_one, new_job, register_worker, settle_all
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.testing import ThrowawayPostgres

PATIENT = {"wait": True, "patience": 300.0, "seconds": 1200.0, "kinds": ALL_KINDS, "delayed": 0.1, "aborted": 0.1}
"""Clients that wait through every outage, also many in a row, so that all their adds are acknowledged in the end."""
IMPATIENT = PATIENT | {"name": HASTY, "patience": 0.5}
"""A client that gives up an add soon: the reported result of each add must be right."""
ADD_TIMEOUT = 1.0
"""The option `patience` of a client that gives up soon, in seconds."""


@pytest.fixture
def dice(seed: int, request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{seed} {request.node.name}")


async def failing_add(client: JobQueueClient, most: float) -> None:
    """Add a job during an outage: the add fails within `most` seconds after the client's `patience` ends."""
    before = time.monotonic()
    with pytest.raises(StorageUnavailableError, match="added"):
        await client.add(quick(token="never"))
    assert time.monotonic() - before < ADD_TIMEOUT + most + SLACK


def check_outage_warnings(process: Process) -> None:
    """Check that the process logs one warning per outage, and one message per end of an outage."""
    process.line("the storage is back after")  # the process notices at its next attempt
    assert process.output.count("the storage fails (") == process.output.count("the storage is back after")


async def close_up(
    load: Load, report: Callable[..., None], fault: str, tried: int, recovery: float, clients: list[Process]
) -> None:
    """Let the clients finish, stop the workers, and check the history."""
    for client in clients:
        client.done(120)
    await load.drained()
    verdict = await load.verdict()
    report(fault, tried=tried, **verdict.figures | {"recovery": recovery})
    assert verdict.text == ""
    assert verdict.answers == {"acknowledged"}, "a patient client gets an answer in the end"


async def test_a_server_that_crashes_again_and_again_loses_nothing(
    postgres: ThrowawayPostgres, load_on: Callable[..., Load], report: Callable[..., None], scale: Scale, seed: int
) -> None:
    await open_storage(postgres.dsn).migrate()
    load = load_on(postgres.dsn)
    workers = [load.worker().started() for _ in range(2)]
    crashes = scale.times(4, least=2, most=40)
    jobs = 60 * crashes
    # The clients add jobs until after the last crash and recovery.
    rate = 40 if scale.is_soak else 150
    clients = [load.client(jobs=jobs, rate=rate, many=20, keys=4, seed=seed + n, **PATIENT).started() for n in range(2)]
    clients.append(load.client(jobs=jobs // 4, rate=rate / 4, many=20, seed=seed, **IMPATIENT).started())
    longest = 0.0
    for _ in range(crashes):
        seen = len(load.history().adds) + 60
        await load.until(
            lambda history, seen=seen: len(history.adds) > seen or all(client.is_done for client in clients)
        )
        postgres.halt(at_once=True)
        postgres.start()
        longest = max(longest, await load.next_run(now()))
    await close_up(load, report, "server crashed and started", crashes, longest, clients)
    assert all(worker.alive for worker in workers)


async def test_workers_and_clients_wait_for_a_server_that_is_gone_for_long(
    postgres: ThrowawayPostgres, load_on: Callable[..., Load], report: Callable[..., None], scale: Scale, seed: int
) -> None:
    await open_storage(postgres.dsn).migrate()
    load = load_on(postgres.dsn)
    workers = [load.worker().started() for _ in range(2)]
    client = load.client(jobs=400, rate=100, seed=seed, **PATIENT).started()
    async with watched(postgres.dsn) as health, JobQueueClient(postgres.dsn, patience=ADD_TIMEOUT) as hasty:
        await load.until(lambda history: len(history.runs) > 100)
        gone = time.monotonic()
        postgres.halt(at_once=True)
        await health.notice(gone)
        await failing_add(hasty, most=1.0)
        # The outage lasts six leases: every worker has stopped its runs, since their leases expired.
        await asyncio.sleep(60 if scale.is_soak else 12)
        await failing_add(hasty, most=1.0)
        health.lasting(gone)
        postgres.start()
        back = time.monotonic()
        recovery = await load.next_run(now())
        await health.recover(back)
    report("health reports a server that is gone", tried=2, recovery=health.recovered)
    await close_up(load, report, "server gone for long", 1, recovery, [client])
    for worker in workers:
        assert worker.alive
        check_outage_warnings(worker)


async def test_lost_answers_end_in_time_limits_and_lose_nothing(
    postgres: ThrowawayPostgres, load_on: Callable[..., Load], report: Callable[..., None], scale: Scale, seed: int
) -> None:
    await open_storage(postgres.dsn).migrate()
    jobs = scale.times(100, least=50)
    with Proxy(postgres.dsn) as proxy:
        load = load_on(proxy.url_of("/postgres", time_limit=2), postgres.dsn)
        workers = [load.worker().started() for _ in range(2)]
        clients = [
            load.client(jobs=4 * jobs, rate=80, many=20, seed=seed, **PATIENT).started(),
            load.client(jobs=jobs, rate=20, seed=seed, **IMPATIENT).started(),
        ]
        longest = 0.0
        holes = scale.times(2, most=6)
        async with watched(load.url) as health, JobQueueClient(load.url, patience=ADD_TIMEOUT) as hasty:
            for hole in range(holes):
                wanted = 4 * jobs * (hole + 0.5) / (holes + 1)
                await load.until(lambda history, wanted=wanted: len(history.adds) > wanted)
                gone = time.monotonic()
                with proxy.black_hole():
                    await health.notice(gone)
                    await failing_add(hasty, most=2.0)
                    await asyncio.sleep(60 if scale.is_soak else 5)
                    health.lasting(gone)
                back = time.monotonic()
                longest = max(longest, await load.next_run(now()))
                await health.recover(back)
        report("health reports lost answers", tried=2 * holes, recovery=health.recovered)
        await close_up(load, report, "answers lost for long", holes, longest, clients)
        assert all(worker.alive for worker in workers)


async def test_backends_terminated_at_random_lose_nothing(
    postgres: ThrowawayPostgres,
    load_on: Callable[..., Load],
    report: Callable[..., None],
    scale: Scale,
    seed: int,
    dice: random.Random,
) -> None:
    await open_storage(postgres.dsn).migrate()
    load = load_on(f"{postgres.dsn}&application_name=victim")
    workers = [load.worker().started() for _ in range(2)]
    jobs, rate = (4000, 50) if scale.is_soak else (400, 150)
    # Wait for the start: opening a storage is attempted only once.
    clients = [load.client(jobs=jobs, rate=rate, many=20, keys=4, seed=seed + n, **PATIENT).started() for n in range(2)]
    terminated = 0
    async with await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as admin:
        while terminated < scale.times(40, least=40) and not all(client.is_done for client in clients):
            found = await (
                await admin.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'victim'")
            ).fetchall()
            if found:
                await admin.execute("SELECT pg_terminate_backend(%s)", dice.choice(found))
                terminated += 1
            await asyncio.sleep(dice.random() * 0.1)
    recovery = await load.next_run(now())
    await close_up(load, report, "backends terminated at random", terminated, recovery, clients)
    assert terminated > 20
    assert all(worker.alive for worker in workers)


async def take_all(strangers: contextlib.ExitStack, url: str) -> None:
    """Take connections until the server refuses them again and again: one that it refuses to jobq meanwhile has a place
    for a moment."""
    refused = 0
    while refused < 20:
        try:
            strangers.enter_context(psycopg.connect(url))
            refused = 0
        except psycopg.OperationalError:
            refused += 1
            await asyncio.sleep(0.01)


async def test_workers_and_clients_wait_for_a_server_without_free_connections(
    load_on: Callable[..., Load], report: Callable[..., None], seed: int, scale: Scale
) -> None:
    settings = {"max_connections": "12", "superuser_reserved_connections": "1", "max_wal_senders": "0"}
    with ThrowawayPostgres(settings=settings) as server:
        await open_storage(server.dsn).migrate()
        with contextlib.ExitStack() as strangers:
            # Connected early: those that the server is refusing hold the reserved connection for a moment.
            admin = strangers.enter_context(psycopg.connect(server.dsn, autocommit=True))
            # Superusers may take the reserved connection, too; all others connect as an ordinary role.
            admin.execute("CREATE ROLE team LOGIN")
            admin.execute("GRANT ALL ON SCHEMA jobq TO team")
            for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
                admin.execute(f"GRANT ALL ON ALL {kind} IN SCHEMA jobq TO team")
            url = server.dsn.replace("postgres@", "team@")
            load = load_on(f"{url}&pool_size=2", server.dsn)
            worker = load.worker().started()
            client = load.client(jobs=scale.times(300, least=150), rate=100, seed=seed, **PATIENT).started()
            await load.until(lambda history: len(history.runs) > 30)
            await take_all(strangers, url)
            # jobq keeps its open connections. A new process gets none, and reports that at once.
            before = time.monotonic()
            with pytest.raises(StorageUnavailableError, match="connection"):
                await open_storage(url).open()
            assert time.monotonic() - before < 5
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jobq'")
            await take_all(strangers, url)
            await asyncio.sleep(4)
        recovery = await load.next_run(now())
        await close_up(load, report, "no connection left", 1, recovery, [client])
        assert worker.alive


# Each step of the protocol


OPERATIONS = ("add", "add_many", "add_unique", "claim", "settle", "beat")


@pytest.fixture(scope="module")
def steady(postgres_server: ThrowawayPostgres) -> Iterator[Proxy]:
    with Proxy(postgres_server.dsn) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def direct(postgres_url: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(postgres_url)
    await storage.migrate()
    async with storage:
        yield storage


def positions(proxy: Proxy, every: int = 1, first: int = 0) -> Iterator[Callable[[], Cut]]:
    """Yield a cut before and after each message, in both directions, until a cut finds no message.

    every: 2 skips every second message, with different messages before than after; 4 skips three of four. first: the
    number of messages to skip at the start, modulo `every`.
    """
    for cut in (proxy.cut, proxy.cut_answer):
        for after in (False, True):
            for nth in range(1 + (first + after) % every, 40, every):
                made: list[Cut] = []
                yield lambda cut=cut, after=after, nth=nth, made=made: made.append(cut(nth=nth, after=after)) or made[0]
                if not made[0].hit.is_set():
                    proxy.heal()
                    break


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_connection_cut_at_any_step_leaves_all_or_nothing(
    direct: PostgresQueueStorage,
    steady: Proxy,
    report: Callable[..., None],
    operation: str,
    postgres_url: str,
    scale: Scale,
) -> None:
    """Cut before and after each message of either side, on a new connection and on a used one."""
    database = postgres_url.split("?")[0].rsplit("/", 1)[1]
    tried = 0
    for warm in (False, True):
        # Most messages of a new connection open it, for every operation alike: the operations take turns at these.
        every = (2 if warm else 4) if scale.is_smallest else 1
        for arm in positions(steady, every, first=OPERATIONS.index(operation)):
            storage = PostgresQueueStorage(steady.url_of(f"/{database}", time_limit=5, application_name="cut"))
            async with storage:
                ways = Ways(direct, storage, operation)
                await ways.prepare(warm=warm)
                cut = arm()
                outcome = await ways.attempt()
                tried += cut.hit.is_set()
                steady.heal()
                await ways.check(outcome)
            await nothing_runs(postgres_url, "cut")
            await direct.clear("default")
    report(f"connection cut at each step of {operation}", tried=tried, added=tried)
    assert tried > (10 if scale.is_smallest else 20)


async def nothing_runs(url: str, application: str) -> None:
    """Wait until the server has ended an application's sessions: it may still execute what one sent that was cut."""
    query = b"SELECT state, query FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()"
    until = time.monotonic() + 20
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while left := await (await connection.execute(query, (application,))).fetchall():
            assert time.monotonic() < until, f"still there: {left}"
            await asyncio.sleep(0.002)


class Ways:
    """One operation through the proxy; its effect is read over a direct connection."""

    def __init__(self, direct: PostgresQueueStorage, storage: PostgresQueueStorage, operation: str) -> None:
        self.direct = direct
        self.storage = storage
        self.operation = operation
        self.jobs = [new_job(unique_key=str(random.random()) if operation == "add_unique" else None)]
        if operation == "add_many":
            self.jobs += [new_job() for _ in range(2)]

    async def prepare(self, *, warm: bool) -> None:
        """Bring the jobs into the initial state. warm: use the connection for the same operation before."""
        self.worker = await register_worker(self.direct)
        self.heartbeat = self.storage.heartbeat(self.worker)
        if warm and self.operation == "beat":
            assert await asyncio.to_thread(self.heartbeat.beat, WorkerStats())
        elif warm:
            # Run the same statements for other jobs, so that they are prepared.
            other = Ways(self.direct, self.storage, self.operation)
            other.worker = self.worker
            if self.operation in ("claim", "settle"):
                await add_job(self.direct)
            if self.operation == "settle":
                other.claimed = await claim_one(self.direct, self.worker)
            await other.attempt()
            await self.direct.clear("default")
        else:
            while idle := self.storage._engine.pool._idle:
                idle.pop()[0].close()
        if self.operation in ("claim", "settle"):
            self.jobs[0] = new_job(id=await add_job(self.direct))
        if self.operation == "settle":
            self.claimed = await claim_one(self.direct, self.worker)

    async def attempt(self) -> str:
        """Run the operation once; return a description of its result."""
        try:
            match self.operation:
                case "claim":
                    answer = await self.storage.settle_and_claim(self.worker.id, (), Claim.of("default", limit=5))
                    return f"claimed {len(answer.claimed)}"
                case "settle":
                    settlement = Settlement(self.claimed.id, self.claimed.lease, Ending.COMPLETE, b"1")
                    # The server may still hold the row for the connection that was cut; then the answer is `busy`.
                    answer = await settle_all(self.storage, self.worker.id, [settlement], Claim.of("default", limit=5))
                    return str(answer.settled[0])
                case "beat":
                    return str(await asyncio.to_thread(self.heartbeat.beat, WorkerStats(completed=1)))
                case _:
                    return f"added {sum(added.created for added in await self.storage.add(self.jobs))}"
        except StorageUnavailableError:
            return "unknown"

    async def check(self, outcome: str) -> None:
        """Compare the effect with the reported result, and repeat the operation until there is an answer."""
        again = await self.attempt()
        for _ in range(3):
            # A connection that was cut after its last answer may look intact until its next use.
            if again == "unknown":
                again = await self.attempt()
        record = (await self.direct.get([self.jobs[0].id]))[0]
        match self.operation:
            case "claim":
                held = await self.direct.recover_claims(self.worker.id, [])
                assert [job.id for job in held] == [self.jobs[0].id], "the job has one owner, whichever answer was lost"
                assert (outcome, again) in {
                    ("claimed 1", "claimed 0"),
                    ("unknown", "claimed 1"),
                    ("unknown", "claimed 0"),
                }
            case "settle":
                assert again == str(JobState.COMPLETED)
                assert outcome in (again, "unknown")
                assert record is not None
                assert (record.state, record.result, record.attempt) == (JobState.COMPLETED, 1, 1)
            case "beat":
                await asyncio.to_thread(self.heartbeat.close)
                assert again == "True"
                assert outcome in ("True", "unknown")
                assert (await self.direct.workers())[-1].stats.completed == 1
            case _:
                count = len(self.jobs)
                assert (await self.direct.counts("default"))["default"][JobState.PENDING] == count
                expected = {(f"added {count}", "added 0"), ("unknown", "added 0"), ("unknown", f"added {count}")}
                assert (outcome, again) in expected
        await self.direct.deregister(self.worker.id)


# No writes


async def test_a_read_only_database_is_reported_at_once(
    direct: PostgresQueueStorage, postgres_url: str, report: Callable[..., None], load_on: Callable[..., Load]
) -> None:
    load = load_on(f"{postgres_url}&application_name=jobq-faults")
    worker = load.worker().started()
    name = postgres_url.split("?")[0].rsplit("/", 1)[1]
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jobq-faults'"
        )
        async with JobQueueClient(postgres_url) as client:
            before = time.monotonic()
            with pytest.raises(StorageError, match=r"read-only.*primary"):
                await client.add(quick(token="refused"))
            assert time.monotonic() - before < 2, "at once"
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jobq-faults'"
        )
    back = now()
    client = load.client(jobs=50, **PATIENT)
    await close_up(load, report, "database made read-only", 1, await load.next_run(back), [client])
    assert worker.alive


async def test_workers_and_clients_wait_for_a_server_made_read_only_while_it_runs(
    postgres: ThrowawayPostgres, load_on: Callable[..., Load], report: Callable[..., None], scale: Scale, seed: int
) -> None:
    """An operator reloads the configuration: no connection breaks, and the open ones become read-only."""
    await open_storage(postgres.dsn).migrate()
    load = load_on(postgres.dsn)
    workers = [load.worker().started() for _ in range(2)]
    times, longest = scale.times(2), 0.0
    client = load.client(jobs=250 * times, rate=80, many=20, seed=seed, **PATIENT).started()
    async with (
        await psycopg.AsyncConnection.connect(postgres.dsn, autocommit=True) as admin,
        watched(postgres.dsn) as health,
        JobQueueClient(postgres.dsn) as asking,
    ):
        for _ in range(times):
            begun = now()
            await load.until(
                lambda history, begun=begun: sum(run.start > begun for run in history.runs) > 30 or client.said("added")
            )
            gone = time.monotonic()
            await switch(admin, "on")
            await health.notice(gone)
            before = time.monotonic()
            with pytest.raises(StorageReadOnlyError, match="default_transaction_read_only is on"):
                await asking.add(quick(token="refused"))
            assert time.monotonic() - before < 1, "at once, whatever the client's `patience`"
            health.lasting(gone)
            await switch(admin, "off")
            back = time.monotonic()
            longest = max(longest, await load.next_run(now()))
            await health.recover(back)
    client.done(120)
    await load.drained()
    verdict = await load.verdict()
    report("server made read-only by a reload", tried=times, **verdict.figures | {"recovery": longest})
    assert verdict.text == ""
    # Refused jobs are not stored: the client reports some adds as refused, and no stored job among them.
    answers = Counter(add.answer for add in verdict.history.adds)
    assert answers["acknowledged"] > 100
    assert answers["acknowledged"] < answers.total()
    assert all(worker.alive for worker in workers)


async def switch(admin: psycopg.AsyncConnection[Any], way: str) -> None:
    """Set the option for all sessions except the administrator's."""
    await admin.execute("SET default_transaction_read_only = off")
    await admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {way}".encode())
    await admin.execute("SELECT pg_reload_conf()")
