"""Being alive, being taken for lost, and what must not run then."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from jobq_core import Backoff, JobCompleted, JobContext, JobState, WorkerLost, WorkerStarted, job
from jobq_core.events import EventSource
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import Heartbeat
from jobq_core.testing import ManualClock, claim_one, register_worker, worker_info
from jobq_worker import outages
from jobq_worker.liveness import leases, registration
from jobq_worker.running.pipeline import Pipeline
from jobq_worker.running.slots import Slots

from .kit import Endings, Stage, add, add_many, ending, prefetch_always, record, state, until, working
from .probe import Probe


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries follow each other quickly."""
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.01))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def frozen(clock: ManualClock):  # type: ignore[no-untyped-def]
    async with Probe(clock=clock) as storage:
        yield storage


@job()
async def quick(n: int = 0) -> int:
    return n


def hanging(stage: Stage):  # type: ignore[no-untyped-def]
    @job()
    async def hang() -> None:
        stage.reach("started")
        try:
            await asyncio.Event().wait()
        finally:
            stage.reach("stopped")

    return hang


async def test_a_worker_that_was_taken_for_lost_stops_its_runs_and_registers_again(
    frozen: Probe, clock: ManualClock, stage: Stage
) -> None:
    hang = hanging(stage)
    async with working(frozen, hang, quick, heartbeat_interval=0.01) as worker:
        job_id = await add(frozen, hang(), max_attempts=1)
        await stage.reached("started")
        before, starts = worker.id, worker.events(WorkerStarted)
        clock.advance(31)
        [lost] = (await frozen.rescue()).workers  # another worker's leader found it first
        assert lost.worker == before
        await stage.reached("stopped")
        assert (await anext(starts)).worker == worker.id != before
        assert isinstance(await ending(worker, frozen, quick()), JobCompleted)
        assert [entry.info.id for entry in await frozen.workers()] == [worker.id]
        assert frozen.settlements_of(job_id) == []
    found = await record(frozen, job_id)
    assert found.state is JobState.FAILED
    assert found.error is not None
    assert found.error.type == "jobq_core.errors.WorkerLostError"


async def test_an_exchange_that_says_lost_lets_the_heart_ask_at_once(frozen: Probe, clock: ManualClock) -> None:
    async with working(frozen, quick, heartbeat_interval=10_000, lost_after=30_000) as worker:
        await ending(worker, frozen, quick())
        before = worker.id
        clock.advance(30_001)
        await frozen.rescue()
        endings = Endings(worker)
        async with asyncio.timeout(10):
            assert isinstance(await endings.of(await add(frozen, quick())), JobCompleted)
        assert worker.id != before


async def test_a_worker_that_cannot_beat_stops_its_runs_before_it_counts_as_lost(storage: Probe, stage: Stage) -> None:
    hang = hanging(stage)
    async with working(storage, hang, heartbeat_interval=0.1, lost_after=3.0) as worker:
        job_id = await add(storage, hang())
        await stage.reached("started")
        storage.away = True
        await stage.reached("stopped")
        own = worker._session.registration  # type: ignore[union-attr]
        assert own.last_beat is not None
        assert own.last_beat < own.alive_until < own.last_beat + 3.0
        assert not worker.health().alive
        storage.away = False
        # The row expired, and nobody took the job: it is handed back, and runs again.
        await storage.called("settle_and_claim", 2)

        async def again() -> bool:
            return (await record(storage, job_id)).lease != 1

        await until(again)
        assert worker.health().alive


async def test_a_leader_that_was_paused_hands_back_what_it_ran_before_it_looks_for_the_lost(
    frozen: Probe, clock: ManualClock, stage: Stage
) -> None:
    hang = hanging(stage)
    async with working(frozen, hang, heartbeat_interval=10_000, lost_after=30_000) as worker:
        job_id = await add(frozen, hang(), max_attempts=1)
        await stage.reached("started")
        await until(lambda: frozen.calls["rescue"] == 1)
        session = worker._session
        assert session is not None
        # It goes on after a pause in which its leases ran out, and the look for the lost is due before all else.
        clock.advance(30_001)
        session.registration.alive_until = 0.0
        session.maintenance.rescue.due_at = 0.0
        session.maintenance.loop.wake()
        await stage.reached("stopped")

        async def handed_back() -> bool:
            return await state(frozen, job_id) is not JobState.PROCESSING

        await until(handed_back)
        assert frozen.calls["rescue"] == 1
    found = await record(frozen, job_id)
    assert (found.state, found.attempt, found.error) == (JobState.PENDING, 0, None)


async def test_leases_are_reckoned_from_before_the_call_that_renewed_them(storage: Probe) -> None:
    """The storage may have done it long before its answer came."""
    now = 1000.0

    class Slow(Heartbeat):
        def beat(self, stats: WorkerStats) -> bool:
            nonlocal now
            now += 20
            return True

        def close(self) -> None: ...

    class Late(Probe):
        async def register(self, worker: WorkerInfo) -> None:
            nonlocal now
            await super().register(worker)
            now += 10

        def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
            return Slow()

    async with Late() as late:
        own = registration.Registration(
            late,
            worker_info(lost_after=30.0),
            Pipeline(Slots(1), None),
            outages.Outages("worker"),
            EventSource(),
            WorkerStats,
            lambda job: "",
            lambda actor: None,
            heartbeat_interval=10_000,
            clock=lambda: now,
        )
        await own.join()
        assert 1010 < own.alive_until < 1030
        own.verify()  # which beats at once
        await until(lambda: own.may_claim)
        assert own.since_beat == 20
        assert now == 1030
        assert 1030 < own.alive_until < 1040
        await own.leave(1.0)


async def test_what_was_claimed_before_the_process_was_frozen_is_not_started(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    ran = []

    @job()
    async def note() -> None:
        ran.append(now)

    monkeypatch.setattr(registration.Registration.__init__, "__kwdefaults__", {"clock": lambda: now})
    async with working(storage, note):
        await storage.called("promote")
        gate = storage.hold("settle_and_claim")
        job_id = await add(storage, note())

        async def is_in(wanted: JobState) -> bool:
            return await state(storage, job_id) is wanted

        await until(lambda: is_in(JobState.PROCESSING))
        storage.fail("beat", 10_000)  # one that comes before the answer would renew the lease
        now += 60  # the process stood still between the claim and its answer
        gate.set()
        await until(lambda: is_in(JobState.PENDING))
        assert ran == []


async def test_a_lease_that_is_lost_stops_the_run_and_settles_nothing(
    storage: Probe, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    hang = hanging(stage)
    async with working(storage, hang, quick) as worker:
        job_id = await add(storage, hang())
        await stage.reached("started")
        await storage.delete([job_id])
        await stage.reached("stopped")
        await ending(worker, storage, quick())
        assert worker.pool_stats().total.finished == 1
    assert storage.settlements_of(job_id) == []
    assert "LeaseLostError" in caplog.text
    assert await storage.get([job_id]) == [None]


async def test_a_run_that_goes_on_without_its_lease_is_reported_once(
    storage: Probe, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    @job()
    def deaf(n: int) -> None:
        stage.reach(f"started {n}")
        stage.wait("go on")

    def reported() -> list[UUID]:
        return [UUID(vars(record)["job_id"]) for record in caplog.records if "LeaseLostError" in record.message]

    async with working(storage, deaf, concurrency=2):
        ids = []
        for n in range(2):
            ids.append(await add(storage, deaf(n=n)))
            await stage.reached(f"started {n}")
            await storage.delete(ids[n:])
            await until(lambda: reported()[len(ids) - 1 :])
        assert reported() == ids
        stage.reach("go on")


async def test_jobs_lost_from_the_buffer_while_the_storage_was_asked_about_them_are_let_go(
    frozen: Probe,
    clock: ManualClock,
    stage: Stage,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefetch_always(monkeypatch)
    hang = hanging(stage)
    options = {"concurrency": 1, "heartbeat_interval": 10_000, "lost_after": 30_000}
    async with working(frozen, hang, quick, **options) as worker:
        await Endings(worker).all(await add_many(frozen, [quick()] * 50))  # short jobs: there is a buffer now
        await add_many(frozen, [hang(), hang(), hang()])
        await stage.reached("started")
        assert worker.health().buffered == 2
        answer = frozen.hold("check_leases")
        asked = asyncio.ensure_future(frozen.called("check_leases"))
        clock.advance(30_001)
        await frozen.rescue()
        await asked
        returned = worker.next_event(WorkerStarted)
        worker.resize(3)  # so that it claims, and is told that it was taken for lost
        await returned
        answer.set()
        await stage.reached("stopped")
        await until(lambda: worker.health().running == 3)
    assert "failed unexpectedly" not in caplog.text


async def test_a_cleared_queue_leaves_no_ghost(storage: Probe, stage: Stage) -> None:
    hang = hanging(stage)
    async with working(storage, hang) as worker:
        await add_many(storage, [hang(), hang()])
        await stage.reached("started")
        assert await storage.clear("default") == 2
        await stage.reached("stopped")
        await until(lambda: not worker.health().running)
    assert sum((await storage.counts("default"))["default"].values()) == 0


async def test_the_leader_reports_the_workers_that_it_found_lost(frozen: Probe, clock: ManualClock) -> None:
    dead = await register_worker(frozen, name="dead")
    job_id = await add(frozen, quick())
    await claim_one(frozen, dead)
    clock.advance(31)
    async with working(frozen, quick) as worker:
        endings = Endings(worker)
        lost = worker.next_event(WorkerLost)
        event = await lost
        assert (event.worker, event.name) == (dead.id, "dead")
        assert [rescued.id for rescued in event.jobs] == [job_id]
        assert isinstance(await endings.of(job_id), JobCompleted)


async def test_the_heart_is_closed_at_a_stop(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        await worker.stop()
        async with asyncio.timeout(5):
            await until(lambda: all(heartbeat.closed for heartbeat in storage.hearts))
    assert len(storage.hearts) == 1


@pytest.mark.parametrize("operation", ["settle_and_claim", "recover_claims"])
async def test_jobs_that_were_given_to_a_registration_which_is_over_are_not_run(
    frozen: Probe, clock: ManualClock, operation: str
) -> None:
    """The answer comes when others have rescued them, and this worker is registered again and counts as alive."""
    leases: list[int] = []

    @job()
    async def note(context: JobContext) -> None:
        assert context.lease is not None
        leases.append(context.lease)

    async with working(frozen, note, heartbeat_interval=10_000, lost_after=30_000) as worker:
        own = worker._session.registration  # type: ignore[union-attr]
        before = worker.id
        if operation == "recover_claims":
            frozen.fail("settle_and_claim", after=True)
        gate = frozen.hold(operation)
        job_id = await add(frozen, note())
        await until(lambda: frozen.calls[operation])

        async def claimed() -> bool:
            return await state(frozen, job_id) is JobState.PROCESSING

        await until(claimed)
        clock.advance(30_001)
        [lost] = (await frozen.rescue()).workers
        assert [rescued.id for rescued in lost.jobs] == [job_id]
        own.verify()
        await until(lambda: own.may_claim and worker.id != before)
        gate.set()

        async def done() -> bool:
            return await state(frozen, job_id) is JobState.COMPLETED

        await until(done)
        assert leases == [2]


async def test_an_end_that_counted_for_nothing_is_neither_told_nor_counted(
    storage: Probe, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases.LeaseMonitor, "check", lambda *_: asyncio.sleep(0))

    @job()
    async def wait() -> None:
        stage.reach("started")
        await stage.reached("go on")

    async with working(storage, wait, quick) as worker:
        endings = Endings(worker)
        gone = await add(storage, wait())
        await stage.reached("started")
        await storage.delete([gone])
        stage.reach("go on")
        await until(lambda: storage.settlements_of(gone))
        last = await endings.of(await add(storage, quick()))
        assert [event.job_id for event in endings._seen] == [last.job_id]
        assert worker.pool_stats().total.completed == 1
