"""The storage fails, before it did anything or after it did all: the worker goes on, and nothing is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from uuid import UUID

import pytest

from jobq_core import (
    Backoff,
    JobCompleted,
    JobContext,
    JobFailed,
    JobProgressed,
    JobState,
    StorageError,
    StorageUnavailableError,
    job,
)
from jobq_core.records import Progress
from jobq_core.storage import Claim
from jobq_worker import outages, session
from jobq_worker.outages import Outages

from .kit import Endings, Stage, add, add_many, ending, record, state, until, working
from .probe import Probe

runs: list[int] = []


@job()
async def quick(n: int = 0) -> int:
    runs.append(n)
    return n


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries follow each other quickly."""
    runs.clear()
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.01))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3, 5])
async def test_an_exchange_that_fails_loses_nothing_and_runs_nothing_twice(
    storage: Probe, nth: int, after: bool
) -> None:
    async with working(storage, quick, concurrency=3) as worker:
        endings = Endings(worker)
        ids: list[UUID] = []
        for n in range(nth):
            ids += await add_many(storage, [quick(n * 10 + i) for i in range(4)])
            await endings.of(ids[-1])
        storage.fail("settle_and_claim", 3, after=after)
        more = await add_many(storage, [quick(1000 + n) for n in range(20)])
        await endings.all([*ids, *more])
        assert worker.pool_stats().total.completed == len(ids) + len(more)
    assert len(runs) == len(set(runs)) == len(ids) + len(more)


async def test_a_claim_whose_answer_was_lost_is_found_and_run(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        await storage.called("promote")
        endings = Endings(worker)
        storage.fail("settle_and_claim", after=True)
        ids = await add_many(storage, [quick(n) for n in range(5)])
        await endings.all(ids)
        assert storage.calls["recover_claims"] >= 1
        assert worker.pool_stats().total.completed == 5
    assert [(await record(storage, job_id)).attempt for job_id in ids] == [1] * 5


async def test_a_settlement_whose_answer_was_lost_counts_once(storage: Probe) -> None:
    seen: list[JobCompleted] = []
    async with working(storage, quick) as worker:
        worker.on(JobCompleted, seen.append)
        endings = Endings(worker)
        await endings.of(await add(storage, quick(1)))
        storage.fail("settle_and_claim", 2, after=True)
        await endings.of(await add(storage, quick(2)))
        assert worker.pool_stats().total.completed == 2
    assert len(seen) == 2


async def test_a_claim_that_takes_effect_long_after_it_failed_is_found(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq_worker.claiming.unanswered.RECHECK_SECONDS", (0.0,))
    monkeypatch.setattr("jobq_worker.claiming.unanswered.ROUTINE_SECONDS", 0.05)
    async with working(storage, quick, poll_interval=0.01) as worker:
        endings = Endings(worker)
        storage.fail("settle_and_claim", 1)
        await endings.of(await add(storage, quick(1)))
        looks = storage.calls["recover_claims"]
        assert looks >= 1
        # The commit of that claim comes now: the job is this worker's, and it was never told. It serves other queues
        # only, so that it cannot claim the job by itself.
        late = await add(storage, quick(2), queue="late")
        me = worker.health().worker
        assert me is not None
        assert [job.id for job in (await storage.settle_and_claim(me, (), Claim.of("late", limit=1))).claimed] == [late]
        await endings.of(late)
        assert storage.calls["recover_claims"] > looks


async def test_a_job_that_this_worker_holds_and_does_not_know_is_found_though_nothing_failed(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a failover to a database that does not know that the job has ended: it still is this worker's there."""
    monkeypatch.setattr("jobq_worker.claiming.unanswered.ROUTINE_SECONDS", 0.05)
    async with working(storage, quick, poll_interval=0.01) as worker:
        endings = Endings(worker)
        held = await add(storage, quick(1), queue="other")
        me = worker.health().worker
        assert me is not None
        assert [job.id for job in (await storage.settle_and_claim(me, (), Claim.of("other", limit=1))).claimed] == [
            held
        ]
        await endings.of(held)
    assert runs == [1]


async def test_a_full_worker_hands_back_what_it_holds_and_does_not_know(storage: Probe) -> None:
    """As often as it may be silent before it counts as lost, whatever that is: nothing failed, no slot is free, and it
    looks for new jobs once in an hour."""
    options: dict[str, float] = {"heartbeat_interval": 0.1, "lost_after": 0.6, "poll_interval": 3600.0}
    held_up = asyncio.Event()

    @job()
    async def busy() -> None:
        await held_up.wait()

    async with asyncio.timeout(20), working(storage, busy, quick, concurrency=1, **options) as worker:
        endings = Endings(worker)
        long = await add(storage, busy())
        await until(lambda: worker.pool_stats().total.running == 1)
        unknown = await add(storage, quick(1), queue="other")
        me = worker.health().worker
        assert me is not None
        assert [job.id for job in (await storage.settle_and_claim(me, (), Claim.of("other", limit=1))).claimed] == [
            unknown
        ]

        async def waits() -> bool:
            return await state(storage, unknown) is JobState.PENDING

        await until(waits)
        assert runs == []
        held_up.set()
        await endings.of(long)


async def test_a_look_that_always_fails_holds_up_no_settlement_and_no_claim(storage: Probe) -> None:
    storage.fail("recover_claims", 100_000, error=StorageError("not allowed"))
    async with asyncio.timeout(20), working(storage, quick, heartbeat_interval=0.02, lost_after=0.2) as worker:
        endings = Endings(worker)
        await storage.called("recover_claims", 3)
        await endings.all([await add(storage, quick(n)) for n in range(20)])
        assert worker.health().storage_error == "StorageError: not allowed"
    assert runs == list(range(20))


async def test_a_stop_while_a_look_that_is_due_fails_settles_all_and_ends(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FLUSH_SECONDS", 0.2)
    storage.fail("recover_claims", 100_000, error=StorageError("not allowed"))
    async with asyncio.timeout(20):
        async with working(storage, quick) as worker:
            endings = Endings(worker)
            # Whether it claimed stays unknown until the end.
            storage.fail("settle_and_claim")
            await endings.all([await add(storage, quick(n)) for n in range(2, 5)])
            await storage.called("recover_claims")
        assert storage.calls["settle_and_claim"] < 100
    assert storage._store.running == {}


async def test_results_are_kept_while_the_database_is_away(storage: Probe, stage: Stage) -> None:
    @job()
    async def gated(n: int) -> int:
        stage.reach(f"started {n}")
        await stage.reached("go on")
        stage.reach(f"ended {n}")
        return n

    async with working(storage, gated) as worker:
        endings = Endings(worker)
        ids = await add_many(storage, [gated(n=n) for n in range(3)])
        for n in range(3):
            await stage.reached(f"started {n}")
        storage.away = True
        stage.reach("go on")
        for n in range(3):
            await stage.reached(f"ended {n}")
        await storage.called("recover_claims", 4)
        health = worker.health()
        assert health.state == "running"
        assert health.storage_failing
        assert not health.healthy
        assert health.storage_errors >= 4
        assert health.storage_error == "StorageUnavailableError: no connection"
        storage.away = False
        assert all(isinstance(event, JobCompleted) for event in await endings.all(ids))
    assert [(await record(storage, job_id)).result for job_id in ids] == [0, 1, 2]


async def test_health_is_good_again_after_an_outage(storage: Probe) -> None:
    async with working(storage, quick, heartbeat_interval=0.02, lost_after=30, poll_interval=0.01) as worker:
        await ending(worker, storage, quick())
        assert worker.health().storage_failing_for is None
        before = time.monotonic()
        storage.away = True
        await storage.called("recover_claims", 3)
        await until(lambda: storage.calls["beat failed"])
        first, second = worker.health().storage_failing_for, worker.health().storage_failing_for
        assert first is not None
        assert second is not None
        assert 0 < first < second < time.monotonic() - before, "from the first call that failed"
        storage.away = False
        await until(lambda: worker.health().healthy)
        assert worker.health().storage_error is None
        assert worker.health().storage_failing_for is None
        assert worker.health().storage_errors >= 3


async def test_a_broken_subscription_and_an_ended_run_leave_no_part_failing(storage: Probe, stage: Stage) -> None:
    @job()
    async def gated() -> None:
        stage.reach("started")
        await stage.reached("go on")

    async with working(storage, gated, poll_interval=0.05) as worker:
        endings = Endings(worker)
        job_id = await add(storage, gated())
        await stage.reached("started")
        storage.away = True
        storage.end_subscriptions()
        worker._session.monitor.loop.wake()  # type: ignore[union-attr]
        await storage.called("check_leases", 2)
        stage.reach("go on")
        storage.away = False
        await endings.of(job_id)
        await until(lambda: worker.health().healthy)


@pytest.mark.parametrize("operation", ["check_leases", "progress", "lead", "promote", "rescue", "prune"])
async def test_no_part_of_a_worker_ends_for_an_error(
    storage: Probe, stage: Stage, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage.fail(operation, 2)
    storage.fail(operation, 1, error=StorageError("odd"))

    @job()
    async def slow(context: JobContext) -> None:
        context.progress(50)
        stage.reach("started")
        await stage.reached("go on")

    async with working(storage, slow) as worker:
        endings = Endings(worker)
        first, second = await add_many(storage, [slow(), slow()])
        await stage.reached("started")
        await storage.abort([first])
        await storage.called(operation, 4 - storage.calls[operation])
        stage.reach("go on")
        assert isinstance(await endings.of(second), JobCompleted)
    assert caplog.text.count("the storage fails") >= 1


async def test_a_broken_subscription_is_replaced(storage: Probe) -> None:
    storage.away = False
    async with working(storage, quick, poll_interval=600) as worker:
        await ending(worker, storage, quick())
        storage.end_subscriptions()
        # Only the call of all handlers after the new subscription can wake the worker in time.
        async with asyncio.timeout(10):
            assert isinstance(await ending(worker, storage, quick()), JobCompleted)


@pytest.mark.parametrize("refusal", [StorageError, OverflowError])
async def test_a_settlement_that_the_storage_refuses_holds_up_no_other(
    storage: Probe, refusal: type[Exception]
) -> None:
    poison = b'"poison"'
    inner = Probe.settle_and_claim

    async def exchange(worker, settlements=(), claim=None):  # type: ignore[no-untyped-def]
        if any(settlement.result == poison for settlement in settlements):
            raise refusal("cannot be written")
        return await inner(storage, worker, settlements, claim)

    storage.settle_and_claim = exchange  # type: ignore[method-assign]

    @job()
    async def answer(text: str) -> str:
        return text

    async with working(storage, answer) as worker:
        endings = Endings(worker)
        texts = [*(f"fine {n}" for n in range(7)), "poison", *(f"fine too {n}" for n in range(7))]
        ids = await add_many(storage, [answer(text=text) for text in texts])
        events = await endings.all(ids)
    assert [isinstance(event, JobCompleted) for event in events] == [text != "poison" for text in texts]
    failed = events[7]
    assert isinstance(failed, JobFailed)
    assert failed.error is not None
    assert failed.error.message == "the storage refused how this run ended: cannot be written"


async def test_progress_that_could_not_be_written_is_written_later(storage: Probe, stage: Stage) -> None:
    @job()
    async def slow(context: JobContext) -> None:
        context.progress(10)
        await stage.reached("go on")

    async with working(storage, slow) as worker:
        storage.fail("progress", 3)
        progressed = worker.next_event(JobProgressed)
        endings = Endings(worker)
        job_id = await add(storage, slow())
        assert (await progressed).progress == Progress(percent=10)
        stage.reach("go on")
        await endings.of(job_id)


async def test_a_stop_during_an_outage_ends_and_leaves_its_jobs_to_rescue(
    storage: Probe, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(session, "END_SECONDS", 0.1)

    @job()
    async def hang() -> None:
        stage.reach("started")
        await asyncio.Event().wait()

    async with working(storage, hang) as worker:
        job_id = await add(storage, hang())
        await stage.reached("started")
        storage.away = True
        async with asyncio.timeout(5):
            await worker.stop(0)
        assert worker.health().state == "stopped"
    storage.away = False
    assert await state(storage, job_id) is JobState.PROCESSING
    [left] = await storage.workers()
    assert left.info.id == worker.id


def test_an_outage_is_logged_once_and_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    now = 100.0
    outages = Outages("worker w", clock=lambda: now)
    for _ in range(5):
        outages.record_failure("fetcher", StorageUnavailableError("gone"))
        outages.record_failure("heartbeat", StorageUnavailableError("gone"))
    now = 107.5
    outages.record_success("fetcher")
    half = outages.now
    outages.record_success("heartbeat")
    assert (half, outages.now) == (True, False)
    assert [entry.message for entry in caplog.records] == [
        "worker w: the storage fails (fetcher: gone); retrying until it is back",
        "worker w: the storage is back after 7.5 s and 10 errors",
    ]


def test_an_unexpected_error_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    Outages("worker w").record_failure("leases", KeyError("bug"))
    [entry] = caplog.records
    assert entry.exc_info is not None
    assert entry.message == "worker w: leases failed unexpectedly; retrying"


def test_an_error_that_only_one_part_has_is_logged_once_beside_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    outages = Outages("worker w", clock=lambda: 100.0)
    for _ in range(30):
        outages.record_failure("pruning", StorageError("no replica identity"))
        outages.record_failure("fetcher", StorageUnavailableError("gone"))
        outages.record_success("fetcher")
        outages.record_failure("fetcher", StorageUnavailableError("gone"))
    outages.record_success("fetcher")
    assert outages.now
    outages.record_success("pruning")
    assert not outages.now
    assert [m for m in caplog.messages if "pruning" in m] == [
        "worker w: pruning failed; retrying: StorageError: no replica identity",
        "worker w: pruning works again after 30 errors",
    ]
