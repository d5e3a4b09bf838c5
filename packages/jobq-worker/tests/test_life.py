"""Start, stop, start again; drain, hand back; slots that come and go; what the statistics say."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import UUID

import pytest

from jobq_core import (
    ClosedError,
    ConfigurationError,
    JobCompleted,
    JobContext,
    JobStarted,
    JobState,
    StorageUnavailableError,
    WorkerStarted,
    WorkerStopped,
    job,
)
from jobq_core.memory import MemoryQueueStorage
from jobq_core.testing import ManualClock
from jobq_worker import JobQueueWorker, session
from jobq_worker import worker as worker_module
from jobq_worker.claiming import fetcher
from jobq_worker.processes.exits import ExitCode

from .kit import Endings, Stage, add, add_many, ending, pass_time, prefetch_always, record, state, working
from .probe import Probe


@job()
async def quick(n: int = 0) -> int:
    return n


@pytest.fixture(params=["async", "thread"])
def gated(request: pytest.FixtureRequest, stage: Stage) -> Any:
    """A job that says that it started and goes on when the stage says so, or until it is told to stop."""
    if request.param == "async":

        @job(name="gated")
        async def in_loop(n: int = 0) -> str:
            stage.notes.append(n)
            stage.reach(f"started {n}")
            await stage.reached("go on")
            return "done"

        return in_loop

    @job(name="gated")
    def in_thread(context: JobContext, n: int = 0) -> str:
        stage.notes.append(n)
        stage.reach(f"started {n}")
        while not stage._gates["go on"].wait(0.01):
            context.check_aborted()
        return "done"

    return in_thread


async def test_start_stop_start_again(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[quick])
    assert worker.id is None
    ids: set[UUID | None] = set()
    for n in range(3):
        started = worker.next_event(WorkerStarted)
        await worker.start()
        assert (await started).worker == worker.id
        assert (await storage.workers())[0].info.id == worker.id
        assert isinstance(await ending(worker, storage, quick(n)), JobCompleted)
        ids.add(worker.id)
        stopped = worker.next_event(WorkerStopped)
        await worker.stop()
        assert (await stopped).stats.completed == n + 1
        assert await storage.workers() == []
        assert worker.health().state == "stopped"
    assert len(ids) == 3  # a restarted worker is never taken for its predecessor


async def test_a_job_added_before_any_worker_started_is_run_by_the_first(storage: Probe) -> None:
    job_id = await add(storage, quick(5))
    async with working(storage, quick) as worker:
        assert isinstance(await Endings(worker).of(job_id), JobCompleted)


async def test_starting_a_worker_that_runs_changes_nothing(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        before = worker.id
        await worker.start()
        assert worker.id == before
        assert len(await storage.workers()) == 1


async def test_a_start_during_a_stop_waits_for_it(storage: Probe, stage: Stage, gated: Any) -> None:
    async with working(storage, gated, quick) as worker:
        await add(storage, gated())
        await stage.reached("started 0")
        before = worker.id
        stopping = asyncio.ensure_future(worker.stop(600))
        await asyncio.sleep(0)
        starting = asyncio.ensure_future(worker.start())
        await asyncio.sleep(0)
        assert worker.health().state == "stopping"
        stage.reach("go on")
        await asyncio.gather(stopping, starting)
        assert worker.health().state == "running"
        assert worker.id != before


async def test_running_a_worker_that_was_started_serves_until_it_is_stopped(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        before = worker.id
        running = asyncio.create_task(worker.run())
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)
        assert worker.id == before
        await worker.stop()
        await running


async def test_a_start_that_fails_leaves_the_worker_as_it_was(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[quick])
    storage.fail("register")
    with pytest.raises(StorageUnavailableError):
        await worker.start()
    assert worker.health().state == "new"
    async with worker:
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)


async def test_stop_while_idle_is_immediate(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        await ending(worker, storage, quick())
        await worker.stop(timeout=3600)


async def test_stopping_a_worker_that_does_not_run_does_nothing(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[quick])
    await worker.stop()
    assert worker.health().state == "new"


async def test_a_stop_during_the_start_stops_what_was_started(storage: Probe) -> None:
    gate = storage.hold("register")
    worker = JobQueueWorker(storage, jobs=[quick])
    starting = asyncio.ensure_future(worker.start())
    await storage.called("register")
    stopping = asyncio.ensure_future(worker.stop())
    gate.set()
    await asyncio.gather(starting, stopping)
    assert worker.health().state == "stopped"
    assert await storage.workers() == []


async def test_stop_lets_running_jobs_finish_and_claims_no_more(storage: Probe, stage: Stage, gated: Any) -> None:
    async with working(storage, gated, concurrency=1) as worker:
        first = await add(storage, gated(n=1))
        await stage.reached("started 1")
        second = await add(storage, gated(n=2))
        stopping = asyncio.ensure_future(worker.stop(30))
        await asyncio.sleep(0)
        assert worker.health().state == "stopping"
        claims = len(storage.arguments["settle_and_claim"])
        stage.reach("go on")
        await stopping
    assert await state(storage, first) is JobState.COMPLETED
    assert await state(storage, second) is JobState.PENDING
    assert all(len(args) < 3 or args[2] is None for args in storage.arguments["settle_and_claim"][claims:])


async def test_stop_hands_back_at_its_timeout_what_still_runs(storage: Probe, stage: Stage, gated: Any) -> None:
    async with working(storage, gated, concurrency=1) as worker:
        job_id = await add(storage, gated())
        await stage.reached("started 0")
        await worker.stop(timeout=0.05)
        found = await record(storage, job_id)
        assert found.state is JobState.PENDING
        assert found.attempt == 0  # the attempt is given back
        assert worker.pool_stats().total.released == 1
        assert await storage.workers() == []


async def test_a_stop_settles_what_has_ended_though_the_storage_fails_at_first(
    storage: Probe, stage: Stage, gated: Any
) -> None:
    async with working(storage, gated) as worker:
        job_id = await add(storage, gated())
        await stage.reached("started 0")
        storage.fail("settle_and_claim", 2)
        stage.reach("go on")
        await worker.stop(30)
    assert await state(storage, job_id) is JobState.COMPLETED


async def test_stop_at_once_is_prompt(storage: Probe, stage: Stage, gated: Any) -> None:
    async with working(storage, gated) as worker:
        ids = await add_many(storage, [gated(n=n) for n in range(3)])
        for n in range(3):
            await stage.reached(f"started {n}")
        async with asyncio.timeout(2):
            await worker.stop(timeout=0)
    assert [await state(storage, job_id) for job_id in ids] == [JobState.PENDING] * 3


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_a_run_that_goes_on_is_not_handed_back_and_its_worker_stays_registered_until_its_lease_runs_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    monkeypatch.setattr(session, "END_SECONDS", 0.05)

    @job(name="deaf", max_attempts=2)
    async def deaf_coroutine() -> None:
        stage.reach("started")
        while not stage._gates["go on"].is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await stage.reached("go on")
        stage.reach("ended")

    @job(name="deaf", max_attempts=2)
    def deaf_thread() -> None:
        stage.reach("started")
        stage.wait("go on")
        stage.reach("ended")

    deaf: Any = {"coroutine": deaf_coroutine, "thread": deaf_thread}[kind]
    clock = ManualClock()
    async with Probe(clock=clock) as storage:
        worker = JobQueueWorker(storage, jobs=[deaf, quick])
        await worker.start()
        job_id, other = await add(storage, deaf()), await add(storage, quick())
        await Endings(worker).of(other)
        await stage.reached("started")
        await worker.stop(0)
        assert "(deaf) was asked to stop and is still running; it is not released" in caplog.text
        assert storage.settlements_of(job_id) == []
        assert await state(storage, job_id) is JobState.PROCESSING
        [left] = await storage.workers()
        assert left.info.id == worker.id
        clock.advance(31)
        stage.reach("go on")
        await stage.reached("ended")
        await storage.rescue()
        assert storage.settlements_of(job_id) == []
        assert [worker.info.id for worker in await storage.workers()] == []
        assert (await record(storage, job_id)).state is JobState.PENDING


async def test_run_exits_with_a_code_if_a_handler_goes_on(
    storage: Probe, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon: list[ExitCode] = []
    monkeypatch.setattr(session, "END_SECONDS", 0.05)
    monkeypatch.setattr(worker_module, "end_process_soon", soon.append)

    @job()
    def deaf() -> None:
        stage.reach("started")
        stage.wait("go on")

    worker = JobQueueWorker(storage, jobs=[deaf])

    async def stop() -> None:
        await add(storage, deaf())
        await stage.reached("started")
        await worker.stop(0)

    stopping = asyncio.ensure_future(stop())
    with pytest.raises(SystemExit) as ended:
        await worker.run()
    stage.reach("go on")
    await stopping
    assert ended.value.code == ExitCode.RUNS_LEFT
    assert soon == [ExitCode.RUNS_LEFT]


async def test_a_second_stop_shortens_the_first(storage: Probe, stage: Stage, gated: Any) -> None:
    async with working(storage, gated) as worker:
        job_id = await add(storage, gated())
        await stage.reached("started 0")
        first = asyncio.ensure_future(worker.stop(600))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await worker.stop(0)
            await first
    assert await state(storage, job_id) is JobState.PENDING


async def test_a_cancelled_stop_goes_on_all_the_same(storage: Probe, stage: Stage, gated: Any) -> None:
    async with working(storage, gated) as worker:
        job_id = await add(storage, gated())
        await stage.reached("started 0")
        stopped = worker.next_event(WorkerStopped)
        stopping = asyncio.ensure_future(worker.stop(30))
        await asyncio.sleep(0)
        stopping.cancel()
        stage.reach("go on")
        await stopped
    assert await state(storage, job_id) is JobState.COMPLETED


async def test_buffered_jobs_are_handed_back_at_a_stop(
    storage: Probe, stage: Stage, gated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefetch_always(monkeypatch)
    async with working(storage, quick, gated, concurrency=1) as worker:
        await Endings(worker).all(await add_many(storage, [quick()] * 50))  # short jobs: there is a buffer now
        ids = await add_many(storage, [gated(n=n) for n in range(20)])
        await stage.reached("started 0")
        assert worker.health().buffered > 0
        stopping = asyncio.ensure_future(worker.stop(30))
        await asyncio.sleep(0)
        stage.reach("go on")
        await stopping
        assert worker.pool_stats().total.released > 0
    states = [await state(storage, job_id) for job_id in ids]
    assert states == [JobState.COMPLETED] + [JobState.PENDING] * 19
    assert [(await record(storage, job_id)).attempt for job_id in ids[1:]] == [0] * 19
    assert stage.notes == [0]


async def test_buffered_jobs_that_would_wait_go_back_to_others(
    storage: Probe, stage: Stage, gated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefetch_always(monkeypatch)
    async with working(storage, quick, gated, concurrency=1) as worker:
        await Endings(worker).all(await add_many(storage, [quick()] * 50))
        ids = await add_many(storage, [gated(n=n) for n in range(5)])
        await stage.reached("started 0")
        assert worker.health().buffered == 4
        pass_time(fetcher.STALE_SECONDS)
        async with working(storage, gated, concurrency=4):
            for n in range(1, 5):
                await stage.reached(f"started {n}")
            stage.reach("go on")
            await Endings(worker).of(ids[0])


async def test_after_stop_returned_nothing_is_claimed(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        await worker.stop()
        exchanges = storage.calls["settle_and_claim"]
        job_id = await add(storage, quick())
        await asyncio.sleep(0)
    assert storage.calls["settle_and_claim"] == exchanges
    assert await state(storage, job_id) is JobState.PENDING


async def test_an_abort_during_a_stop_takes_effect(storage: Probe, stage: Stage, gated: Any) -> None:
    async with working(storage, gated) as worker:
        job_id = await add(storage, gated())
        await stage.reached("started 0")
        stopping = asyncio.ensure_future(worker.stop(600))
        await asyncio.sleep(0)
        await storage.abort([job_id])
        await stopping
    assert await state(storage, job_id) is JobState.ABORTED


async def test_a_second_worker_does_not_run_the_job_of_the_first(storage: Probe, stage: Stage, gated: Any) -> None:
    async with working(storage, gated, name="first") as first:
        endings = Endings(first)
        job_id = await add(storage, gated())
        await stage.reached("started 0")
        async with working(storage, gated, quick, name="second") as second:
            await ending(second, storage, quick())
            stage.reach("go on")
            assert isinstance(await endings.of(job_id), JobCompleted)
            assert second.pool_stats().total.completed + first.pool_stats().total.completed == 2
    assert stage.notes == [0]


async def test_a_restarted_worker_does_not_run_what_another_runs(storage: Probe, stage: Stage, gated: Any) -> None:
    async with working(storage, gated, name="keeper") as keeper:
        endings = Endings(keeper)
        job_id = await add(storage, gated())
        await stage.reached("started 0")
        other = JobQueueWorker(storage, jobs=[gated, quick])
        for _ in range(2):
            async with other:
                await ending(other, storage, quick())
        stage.reach("go on")
        assert isinstance(await endings.of(job_id), JobCompleted)
    assert stage.notes == [0]


async def test_scaling_while_jobs_flow_runs_each_once(storage: Probe) -> None:
    runs: list[int] = []

    @job()
    async def flow(n: int) -> None:
        runs.append(n)
        await asyncio.sleep(0.001)

    async with working(storage, flow, concurrency=2) as worker:
        endings = Endings(worker)
        ids = await add_many(storage, [flow(n=n) for n in range(500)])
        await endings.all(ids[:100])
        worker.resize(6)
        await endings.all(ids[100:300])
        worker.resize(1)
        await endings.all(ids[300:])
        assert worker.concurrency == 1
        assert worker.pool_stats().total.completed == 500
    assert sorted(runs) == list(range(500))


async def test_no_more_run_at_the_same_time_than_there_are_slots(storage: Probe, stage: Stage) -> None:
    now, most = 0, 0

    @job()
    async def count() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    async with working(storage, count, concurrency=3) as worker:
        await Endings(worker).all(await add_many(storage, [count()] * 200))
    assert most == 3


async def test_slots_that_are_taken_away_and_come_back_hold_what_still_runs(storage: Probe, stage: Stage) -> None:
    @job()
    async def gated(n: int) -> None:
        stage.reach(f"started {n}")
        await stage.reached(f"go on {n}")

    async with working(storage, gated, concurrency=2) as worker:
        endings = Endings(worker)
        ids = await add_many(storage, [gated(n=n) for n in range(3)])
        await stage.reached("started 0")
        await stage.reached("started 1")
        worker.resize(0)
        worker.resize(2)
        assert worker.health().running == 2
        assert [slot.job_id is not None for slot in worker.pool_stats().workers] == [True, True]
        stage.reach("go on 0")
        await stage.reached("started 2")
        stage.reach("go on 1")
        stage.reach("go on 2")
        await endings.all(ids)
        assert worker.pool_stats().total.completed == 3


async def test_no_slots_is_a_pause(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        worker.resize(0)
        endings = Endings(worker)
        job_id = await add(storage, quick())
        await storage.called("promote")  # it lives, and does not claim
        assert await state(storage, job_id) is JobState.PENDING
        worker.resize(1)
        assert isinstance(await endings.of(job_id), JobCompleted)


@pytest.mark.parametrize("count", [-1, 1.5, True, "2"])
async def test_a_size_that_cannot_be_is_refused(storage: Probe, count: Any) -> None:
    worker = JobQueueWorker(storage, jobs=[quick])
    with pytest.raises(ConfigurationError, match="concurrency must be a whole number, 0 or more"):
        worker.resize(count)
    assert worker.concurrency == 10


async def test_statistics_sum_over_slots_and_survive_a_stop(storage: Probe) -> None:
    @job()
    async def twice() -> None:
        await asyncio.sleep(0.01)

    worker = JobQueueWorker(storage, jobs=[quick, twice], concurrency=3)
    async with worker:
        await Endings(worker).all(await add_many(storage, [twice() for _ in range(6)]))
        each = worker.pool_stats().workers
        assert [slot.number for slot in each] == [1, 2, 3]
        assert sum(slot.stats.completed for slot in each) == worker.pool_stats().total.completed == 6
        assert worker.pool_stats().total.busy_seconds == pytest.approx(sum(slot.stats.busy_seconds for slot in each))
        worker.resize(1)
        assert worker.pool_stats().total.completed == 6
    stats = worker.pool_stats().total
    assert stats.completed == 6
    assert stats.average_seconds >= 0.01
    async with worker:
        await ending(worker, storage, quick())
    assert worker.pool_stats().total.completed == 7
    # An average weighs every job alike, whichever slot ran it.
    assert worker.pool_stats().total.average_seconds == pytest.approx(worker.pool_stats().total.busy_seconds / 7)


async def test_a_slot_says_what_it_runs(storage: Probe, stage: Stage, gated: Any) -> None:
    async with working(storage, gated, concurrency=2) as worker:
        endings = Endings(worker)
        job_id = await add(storage, gated())
        await stage.reached("started 0")
        [busy] = [slot for slot in worker.pool_stats().workers if slot.job_id is not None]
        assert (busy.number, busy.job_id, busy.kind, busy.stats.running) == (1, job_id, "gated", 1)
        assert worker.pool_stats().total.running == 1
        stage.reach("go on")
        await endings.of(job_id)
        assert all(slot.job_id is None for slot in worker.pool_stats().workers)


async def test_a_storage_given_by_url_is_opened_and_closed_at_each_start_and_stop() -> None:
    worker = JobQueueWorker("memory://owned-by-the-worker", jobs=[quick])
    async with MemoryQueueStorage("owned-by-the-worker") as caller:
        for _ in range(2):
            async with worker:
                assert isinstance(await ending(worker, caller, quick()), JobCompleted)
            with pytest.raises(ClosedError):
                await worker.storage.now()


async def test_an_open_storage_stays_the_callers(storage: Probe) -> None:
    async with working(storage, quick):
        pass
    assert (await storage.now()).tzinfo is not None


async def test_a_storage_object_that_is_not_open_is_not_opened() -> None:
    with pytest.raises(ClosedError):
        await JobQueueWorker(MemoryQueueStorage(), jobs=[quick]).start()


async def test_starts_are_events(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        started = worker.next_event(JobStarted)
        event = await ending(worker, storage, quick())
        first = await started
        assert (first.job_id, first.kind, first.attempt, first.worker) == (event.job_id, "quick", 1, worker.id)


async def test_a_listener_is_called_once_for_once_and_not_after_its_end(storage: Probe) -> None:
    once: list[JobStarted] = []
    always: list[JobStarted] = []
    async with working(storage, quick) as worker:
        worker.once(JobStarted, once.append)
        cancel = worker.on(JobStarted, always.append)
        ended = [await ending(worker, storage, quick()) for _ in range(2)]
        cancel()
        await ending(worker, storage, quick())
    assert [event.job_id for event in once] == [ended[0].job_id]
    assert [event.job_id for event in always] == [event.job_id for event in ended]


async def test_streams_end_when_the_worker_stops(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        stream = worker.events(JobCompleted)
        await ending(worker, storage, quick())
        await worker.stop()
        assert [event.kind async for event in stream] == ["quick"]


async def test_health_while_all_is_well(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[quick])
    assert not worker.health().healthy
    async with worker:
        await storage.called("promote")
        health = worker.health()
        assert health.healthy
        assert (health.state, health.worker, health.alive, health.leads) == ("running", worker.id, True, True)
        assert health.since_beat is not None
        assert health.since_beat < 10
    assert not worker.health().healthy
