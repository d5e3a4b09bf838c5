"""Runs that are noted in the storage before they start: those that are not the first of several attempts."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from jobq_core import (
    Backoff,
    ConcurrencyLimiter,
    JobAborted,
    JobCompleted,
    JobFailed,
    JobRetried,
    JobState,
    RateLimiter,
    RetryPolicy,
    job,
)
from jobq_core.errors import StorageError
from jobq_core.states import Ending
from jobq_core.testing import ManualClock
from jobq_worker import outages
from jobq_worker.liveness import leases, registration

from .kit import Endings, Stage, add, add_many, ending, pass_time, prefetch_always, record, state, until, working
from .probe import Probe
from .test_limits import Watched

runs: list[int] = []


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries follow each other quickly."""
    runs.clear()
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.01))


@job()
async def quick(n: int = 0) -> int:
    runs.append(n)
    return n


def noted(storage: Probe) -> list[UUID]:
    """Return the jobs whose runs were noted, in order."""
    return [job_id for _, leases in storage.arguments["mark_started"] for job_id, _ in leases]


async def test_the_first_of_several_attempts_starts_without_a_note(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        await ending(worker, storage, quick(), max_attempts=2)
    assert storage.calls["mark_started"] == 0


@pytest.mark.parametrize("max_attempts", [1, 3])
async def test_later_attempts_and_the_last_one_are_noted_before_they_start(storage: Probe, max_attempts: int) -> None:
    seen: list[tuple[int, int]] = []

    @job(retry=RetryPolicy(backoff=Backoff(base=0)))
    async def fails() -> None:
        seen.append((len(seen) + 1, storage.calls["mark_started"]))
        raise ValueError("no")

    async with working(storage, fails) as worker:
        endings = Endings(worker)
        job_id = await add(storage, fails(), max_attempts=max_attempts)
        for number in range(1, max_attempts):
            assert isinstance(await endings.of(job_id, number), JobRetried)
        assert isinstance(await endings.of(job_id, max_attempts), JobFailed)
    assert seen == ([(1, 1)] if max_attempts == 1 else [(1, 0), (2, 1), (3, 2)])


async def test_runs_that_start_together_share_a_note(storage: Probe) -> None:
    async with working(storage, quick, concurrency=50) as worker:
        endings = Endings(worker)
        ids = await add_many(storage, [quick(n) for n in range(500)], max_attempts=1)
        await endings.all(ids)
    assert sorted(noted(storage)) == sorted(ids)
    assert storage.calls["mark_started"] <= 50
    assert sorted(runs) == list(range(500))


async def test_no_more_is_noted_than_can_start(storage: Probe, stage: Stage) -> None:
    @job(max_attempts=1)
    async def wait() -> None:
        stage.reach("started")
        await stage.reached("go on")

    async with working(storage, quick, wait, concurrency=2) as worker:
        endings = Endings(worker)
        await endings.all(await add_many(storage, [quick(n) for n in range(100)]))  # so that it takes more than it runs
        ids = await add_many(storage, [wait() for _ in range(20)])
        await stage.reached("started")
        await until(lambda: len(worker._session.pipeline.running) == 2)  # type: ignore[union-attr]
        assert sorted(noted(storage)) == sorted(ids[:2])
        stage.reach("go on")
        await endings.all(ids)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [None, StorageError("refused")], ids=["away", "refused"])
async def test_a_note_that_fails_is_made_again_and_the_job_runs_once(
    storage: Probe, after: bool, error: StorageError | None
) -> None:
    async with working(storage, quick, concurrency=3) as worker:
        storage.fail("mark_started", 4, after=after, error=error)
        endings = Endings(worker)
        ids = await add_many(storage, [quick(n) for n in range(20)], max_attempts=1)
        await endings.all(ids)
        assert worker.health().storage_errors == 4
        assert worker.health().healthy
        assert worker.pool_stats().total.completed == 20
    assert sorted(runs) == list(range(20))


@pytest.mark.parametrize("request_", ["abort", "disable", "delete"])
async def test_a_job_that_is_asked_to_stop_while_its_note_is_under_way_never_runs(
    storage: Probe, request_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "CHECK_SECONDS", 0.01)
    gate = storage.hold("mark_started")
    async with working(storage, quick) as worker:
        job_id = await add(storage, quick(), max_attempts=1)
        await until(lambda: storage.calls["mark_started"])
        await getattr(storage, request_)([job_id])
        if request_ != "delete":
            ends = JobState.ABORTED if request_ == "abort" else JobState.DISABLED

            async def stopped() -> bool:
                return await state(storage, job_id) is ends

            await until(stopped)
        await until(lambda: not worker._session.pipeline.running)  # type: ignore[union-attr]
        gate.set()
        assert isinstance(await ending(worker, storage, quick(1), max_attempts=1), JobCompleted)
    assert runs == [1]


@pytest.mark.parametrize("watched", [True, False])
async def test_a_job_whose_lease_is_over_when_its_run_is_to_begin_never_runs(
    storage: Probe, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    """Whether the watch finds that out first, or nothing but the answer says so."""
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.2, maximum=0.2))
    if not watched:
        monkeypatch.setattr(leases.LeaseMonitor, "check", lambda *_: asyncio.sleep(0))
    async with working(storage, quick, concurrency=1) as worker:
        storage.fail("mark_started", 1)
        gone = await add(storage, quick(1), max_attempts=1)
        await until(lambda: worker.health().storage_errors)
        await storage.delete([gone])
        assert isinstance(await ending(worker, storage, quick(2), max_attempts=1), JobCompleted)
    assert runs == [2]


async def test_what_was_to_begin_before_the_process_was_frozen_is_not_started(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage said that it may, and by the time that this is read the job may be another's."""
    now = 1000.0
    monkeypatch.setattr(registration.Registration.__init__, "__kwdefaults__", {"clock": lambda: now})
    gate = storage.hold("mark_started")
    async with working(storage, quick):
        job_id = await add(storage, quick(), max_attempts=1)
        await until(lambda: storage.calls["mark_started"])
        storage.fail("beat", 10_000)  # one that comes before the answer would renew the lease
        now += 60
        gate.set()

        async def is_handed_back() -> bool:
            return await state(storage, job_id) is JobState.PENDING

        await until(is_handed_back)
        found = await record(storage, job_id)
    assert runs == []
    assert (found.state, found.attempt) == (JobState.PENDING, 0)


async def test_a_worker_that_stops_hands_back_what_is_about_to_begin(storage: Probe) -> None:
    gate = storage.hold("mark_started")
    async with working(storage, quick, concurrency=2) as worker:
        ids = await add_many(storage, [quick(n) for n in range(2)], max_attempts=1)
        await until(lambda: storage.calls["mark_started"])
        stop = asyncio.ensure_future(worker.stop(30))
        await asyncio.sleep(0)
        gate.set()
        await stop
    assert runs == []
    for job_id in ids:
        found = await record(storage, job_id)
        assert (found.state, found.attempt) == (JobState.PENDING, 0)
        assert [each.ending for each in storage.settlements_of(job_id)] == [Ending.RELEASE]


async def test_a_worker_that_stops_while_the_storage_is_silent_runs_nothing(storage: Probe) -> None:
    storage.hold("mark_started")
    async with working(storage, quick) as worker:
        job_id = await add(storage, quick(), max_attempts=1)
        await until(lambda: storage.calls["mark_started"])
        await worker.stop(0)
    assert runs == []
    found = await record(storage, job_id)
    assert (found.state, found.attempt) == (JobState.PENDING, 0)


async def test_a_deadline_that_passes_before_the_run_begins_fails_the_job_unrun(storage: Probe) -> None:
    gate = storage.hold("mark_started")
    async with working(storage, quick) as worker:
        endings = Endings(worker)
        job_id = await add(storage, quick(), max_attempts=1, deadline=600)
        await until(lambda: storage.calls["mark_started"])
        pass_time(600)
        gate.set()
        failed = await endings.of(job_id)
        assert isinstance(failed, JobFailed)
        assert failed.error is not None
        assert failed.error.type == "jobq_core.errors.JobDeadlineError"
        assert "before it could start" in failed.error.message
    assert runs == []


async def test_the_timeout_counts_from_when_the_run_begins(storage: Probe) -> None:
    gate = storage.hold("mark_started")
    async with working(storage, quick) as worker:
        endings = Endings(worker)
        job_id = await add(storage, quick(), max_attempts=1, timeout=600)
        await until(lambda: storage.calls["mark_started"])
        [slot] = [slot for slot in worker.pool_stats().workers if slot.job_id]
        assert (slot.job_id, slot.running_for) == (job_id, 0)
        pass_time(600)
        gate.set()
        assert isinstance(await endings.of(job_id), JobCompleted)


async def test_a_place_of_the_limiter_is_free_again_when_the_run_never_begins(storage: Probe) -> None:
    limiter = Watched(ConcurrencyLimiter(1))
    gate = storage.hold("mark_started")
    async with working(storage, quick, limiter=limiter) as worker:
        endings = Endings(worker)
        job_id = await add(storage, quick(), max_attempts=1)
        await until(lambda: storage.calls["mark_started"])
        await storage.abort([job_id])
        assert isinstance(await endings.of(job_id), JobAborted)
        gate.set()
        assert isinstance(await ending(worker, storage, quick(2), max_attempts=1), JobCompleted)
        await worker.stop(0)
        assert limiter.balanced()
    assert runs == [2]


async def test_a_limiter_counts_a_start_when_it_happens_and_not_when_it_is_noted(storage: Probe) -> None:
    limiter = Watched(RateLimiter(3, 600))
    gate = storage.hold("mark_started")
    async with working(storage, quick, concurrency=4, limiter=limiter) as worker:
        endings = Endings(worker)
        stopped, *ids = await add_many(storage, [quick(n) for n in range(3)], max_attempts=1)
        await until(lambda: storage.calls["mark_started"])
        await storage.abort([stopped])
        assert isinstance(await endings.of(stopped), JobAborted)
        assert limiter.sums["started"] == 0
        gate.set()
        await endings.all(ids)
        assert limiter.sums["started"] == 2
        await worker.stop(0)
        assert limiter.balanced()
    assert sorted(runs) == [1, 2]


@pytest.mark.parametrize("max_attempts", [1, 10])
async def test_what_a_lost_worker_never_ran_is_not_failed_and_runs_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, max_attempts: int
) -> None:
    # So that it is still in the buffer when the loss is noticed, neither handed back nor checked.
    prefetch_always(monkeypatch)
    monkeypatch.setattr(leases.LeaseMonitor, "check", lambda *_: asyncio.sleep(0))
    clock = ManualClock()

    @job(max_attempts=1)
    async def hang() -> None:
        stage.reach("started")
        await asyncio.Event().wait()

    async with Probe(clock=clock) as storage:
        async with working(storage, quick, hang, concurrency=1, heartbeat_interval=10_000, lost_after=30_000) as worker:
            endings = Endings(worker)
            await endings.all(await add_many(storage, [quick(n) for n in range(100)]))
            hanging = await add(storage, hang())
            ids = await add_many(storage, [quick(n) for n in range(100, 110)], max_attempts=max_attempts)
            await stage.reached("started")
            claimed = [job_id for job_id in ids if await state(storage, job_id) is JobState.PROCESSING]
            clock.advance(30_001)
            [lost] = (await storage.rescue()).workers
            worker._session.registration.verify()  # type: ignore[union-attr]
            after = {rescued.id: rescued.state for rescued in lost.jobs}
            assert after == {hanging: JobState.FAILED, **dict.fromkeys(claimed, JobState.PENDING)}
            await endings.all(ids)  # by the same worker under another name
    assert sorted(runs) == list(range(110))
