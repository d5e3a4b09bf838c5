"""Exact times: with stopped clocks, a worker is lost, a job due or pruned, and a term over at its exact time, not 1 ms
earlier."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from comparison.parties import PostgresSchema, StoppedClock, parties

from jobq_core.records import WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import QueueOptions, QueueStorage, Retention
from jobq_core.testing import ERROR, add_job, claim, claim_one, job_in, register_worker, settle, state_of
from jobq_storage_postgres.testing import ThrowawayPostgres

START = 1_767_571_200
BIT = 0.001
"""Seconds by which the second of two like things falls due after the first."""


class Stand:
    """A storage of each kind, and the clock that they share."""

    def __init__(self, storages: dict[str, QueueStorage], clock: StoppedClock, schema: PostgresSchema) -> None:
        self.storages = storages
        self._clock = clock
        self._schema = schema

    async def at(self, seconds: int) -> None:
        """Set the clock to `seconds` after the start."""
        self._clock.now = START + seconds
        await self._schema.set_clock(self._clock.now)


@pytest.fixture(scope="module")
def name() -> str:
    """The schema of all tests here: created once, emptied for each test."""
    return f"jobq_{uuid.uuid4().hex[:12]}"


@pytest_asyncio.fixture
async def stand(postgres_server: ThrowawayPostgres, name: str, tmp_path: Path) -> AsyncIterator[Stand]:
    schema = PostgresSchema(postgres_server.dsn, name)
    try:
        await schema.make()
        clock = StoppedClock(START)
        async with parties(clock, schema, tmp_path, ("default",)) as made:
            yield Stand({party.name: party.storage for party in made}, clock, schema)
    finally:
        await schema.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def storage(stand: Stand, request: pytest.FixtureRequest) -> QueueStorage:
    return stand.storages[request.param]


async def test_a_worker_is_lost_exactly_when_its_lease_expires(
    storage: QueueStorage, stand: Stand, report: Callable[..., None]
) -> None:
    jobs = [await add_job(storage) for _ in range(2)]
    exact, later = [await register_worker(storage, lost_after=lost_after) for lost_after in (90.0, 90.0 + BIT)]
    for worker in (exact, later):
        await claim_one(storage, worker)
    await stand.at(89)
    assert (await storage.rescue()).workers == []
    assert (
        await claim(storage, exact) == await claim(storage, later) == []
    )  # a claim also checks that the worker counts as alive
    await stand.at(90)
    assert not (await storage.settle_and_claim(exact.id)).alive
    assert (await storage.settle_and_claim(later.id)).alive
    assert [[job.id for job in lost.jobs] for lost in (await storage.rescue()).workers] == [jobs[:1]]
    heartbeat = storage.heartbeat(later)
    assert await asyncio.to_thread(heartbeat.beat, WorkerStats())
    await stand.at(180)
    assert (await storage.rescue()).workers == [], "a beat renews the lease for as long as the registration did"
    await stand.at(181)
    assert [lost.worker for lost in (await storage.rescue()).workers] == [later.id]
    assert not await asyncio.to_thread(heartbeat.beat, WorkerStats())
    await asyncio.to_thread(heartbeat.close)
    report("exact times of expiry and promotion", tried=4, added=2)


async def test_jobs_are_promoted_exactly_at_their_time(
    storage: QueueStorage, stand: Stand, report: Callable[..., None]
) -> None:
    worker = await register_worker(storage, lost_after=1000.0)
    made = []
    for when in (100.0, 100.0 + BIT):
        job = await job_in(storage, worker, JobState.PENDING)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, error=ERROR, when=when)
        held_back = await job_in(storage, worker, JobState.PENDING)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RELEASE, when=when)
        disabled = await job_in(storage, worker, JobState.SCHEDULED, run_at=when)
        await storage.disable([disabled])
        made.append((await add_job(storage, run_at=when), job, held_back, disabled))
    exact, later = made
    await stand.at(99)
    promotion = await storage.promote()
    assert (promotion.promoted, promotion.next_in) == (0, 1.0)
    await stand.at(100)
    promotion = await storage.promote()
    assert (promotion.promoted, promotion.next_in) == (3, pytest.approx(BIT))
    for job in exact[:3]:
        assert await state_of(storage, job) is JobState.PENDING
    changes = await storage.enable([exact[3], later[3]])
    assert [change.after for change in changes] == [JobState.PENDING, JobState.SCHEDULED]
    await stand.at(101)
    assert ((await storage.promote()).promoted, (await storage.promote()).next_in) == (4, None)
    report("exact times of expiry and promotion", tried=8, added=8)


async def test_a_claim_gives_the_seconds_until_the_deadline(storage: QueueStorage, stand: Stand) -> None:
    worker = await register_worker(storage, lost_after=1000.0)
    await add_job(storage, deadline=100.0)
    await stand.at(99)
    assert (await claim_one(storage, worker)).deadline_in == 1.0


async def test_finished_jobs_are_pruned_exactly_after_their_retention(
    storage: QueueStorage, stand: Stand, report: Callable[..., None]
) -> None:
    worker = await register_worker(storage, queues=("exact", "later"))
    for queue, more in (("exact", 0.0), ("later", BIT)):
        kept = Retention(completed=100 + more, failed=200 + more, aborted=300 + more)
        await storage.set_queue(queue, QueueOptions(retention=kept))
        for state in (JobState.COMPLETED, JobState.FAILED, JobState.ABORTED):
            await job_in(storage, worker, state, queue=queue)
    for seconds in (100, 200, 300):
        await stand.at(seconds - 1)
        assert await storage.prune() == (0 if seconds == 100 else 1)  # the job that was kept slightly longer
        await stand.at(seconds)
        assert await storage.prune() == 1
    await stand.at(301)
    assert await storage.prune() == 1
    report("exact times of expiry and promotion", tried=6, added=6)


async def test_another_worker_leads_exactly_when_the_term_is_over(
    storage: QueueStorage, stand: Stand, report: Callable[..., None]
) -> None:
    leader, other = await register_worker(storage), await register_worker(storage)
    assert (await storage.lead(leader.id, 60.0 + BIT)).leads
    await stand.at(60)
    leadership = await storage.lead(other.id, 60.0)
    assert (leadership.leads, leadership.expires_in) == (False, pytest.approx(BIT))
    assert (await storage.lead(leader.id, 60.0)).leads
    await stand.at(119)
    assert not (await storage.lead(other.id, 60.0)).leads
    await stand.at(120)
    assert (await storage.lead(other.id, 60.0)).leads
    report("exact times of expiry and promotion", tried=3)
