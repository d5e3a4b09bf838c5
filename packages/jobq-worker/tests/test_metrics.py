"""The metrics of workers and storages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import Metric

from jobq_core import JobState, PermanentJobError, job
from jobq_core.errors import StorageError, StorageUnavailableError
from jobq_core.storage import StatisticsRecord, bucket_of
from jobq_core.testing import ManualClock, add_job, register_worker
from jobq_worker import JobQueueWorker
from jobq_worker.metrics import StorageMetrics, collector, metrics_text, storage_metrics
from jobq_worker.metrics.labels import MAX_QUEUES, Labels
from jobq_worker.metrics.storage_metrics import BOUNDS
from jobq_worker.metrics.totals import EndedTotals
from jobq_worker.settling.exchanges import OTHER, Buckets

from .kit import Endings, Stage, add, add_many, until, working
from .probe import Probe

MINUTE = datetime(2026, 1, 5, 12, 30, tzinfo=UTC)
Values = dict[tuple[str, ...], float]


@job()
async def quick(n: int = 0) -> int:
    return n


@job(max_attempts=1)
async def bad() -> None:
    raise PermanentJobError("no")


def values(families: Iterable[Metric], name: str) -> Values:
    """Return the samples of this name by their labels' values, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


async def collect(worker: JobQueueWorker) -> list[Metric]:
    """Collect in a thread, as a scrape does."""
    return await asyncio.to_thread(lambda: list(collector(worker).collect()))


# The worker itself


async def test_nothing_is_counted_until_metrics_are_asked_for(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        endings = Endings(worker)
        await endings.of(await add(storage, quick()))
        assert worker.exchanges.runs == {}
        assert worker.exchanges.seconds.sum == 0


async def test_runs_and_exchanges_are_counted_from_then_on(storage: Probe) -> None:
    async with working(storage, quick, bad) as worker:
        source = collector(worker)
        collector(worker)  # a second one, which counts nothing twice
        endings = Endings(worker)
        await endings.all(await add_many(storage, [quick(n) for n in range(7)]))
        await endings.of(await add(storage, bad()))
        await until(lambda: sum(worker.exchanges.runs.values()) == 8)
        found = await asyncio.to_thread(lambda: list(source.collect()))
    assert values(found, "jobq_runs_total") == {("complete", "quick", "default"): 7, ("fail", "bad", "default"): 1}
    assert values(found, "jobq_runs_started_total") == {("quick", "default"): 7, ("bad", "default"): 1}
    exchanges = values(found, "jobq_exchange_seconds_count")[()]
    assert exchanges >= 2
    assert values(found, "jobq_exchange_jobs_count")[()] == exchanges
    # each job is claimed by one exchange and settled by another
    assert values(found, "jobq_exchange_jobs_sum")[()] >= 8


async def test_slots_are_shown_by_state(storage: Probe, stage: Stage) -> None:
    @job()
    async def hold() -> None:
        stage.reach("started")
        await asyncio.Event().wait()

    async with working(storage, hold, concurrency=3, name="w") as worker:
        await add(storage, hold())
        await stage.reached("started")
        slots = values(await collect(worker), "jobq_worker_slots")
    assert slots == {("busy", "w"): 1, ("free", "w"): 2, ("hung", "w"): 0}


async def test_a_run_that_is_taken_away_counts_as_a_lost_lease(storage: Probe, stage: Stage) -> None:
    @job()
    async def hold() -> None:
        stage.reach("started")
        await asyncio.Event().wait()

    async with working(storage, hold) as worker:
        job_id = await add(storage, hold())
        await stage.reached("started")
        assert values(await collect(worker), "jobq_lost_leases_total") == {(): 0}
        await storage.delete([job_id])
        await until(lambda: worker.health().running == 0)
        assert values(await collect(worker), "jobq_lost_leases_total") == {(): 1}


async def test_jobs_that_the_worker_could_not_take_are_counted_by_kind(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        await add_job(storage, kind="strange")
        await until(lambda: worker.health().refused_kinds)
        found = await collect(worker)
    assert values(found, "jobq_refused_jobs_total") == {("strange", "unknown kind"): 1}


async def test_a_worker_that_does_not_run_has_metrics_and_is_not_up() -> None:
    worker = JobQueueWorker("memory://", jobs=[quick], name="w")
    found = await collect(worker)
    assert values(found, "jobq_up") == {(): 0}
    assert values(found, "jobq_worker_loop_lag_seconds") == {("w",): 0}


# The storage


async def test_the_worker_that_does_the_maintenance_shows_the_storage_too(storage: Probe) -> None:
    async with working(storage, quick, name="one") as one:
        await until(lambda: one.health().leads)
        async with working(storage, quick, name="two") as two:
            await until(lambda: storage.calls["lead"] >= 2)
            await add_job(storage, queue="other", run_at=60.0)
            shown, not_shown = await collect(one), await collect(two)
    assert values(shown, "jobq_queue_jobs")["other", "scheduled"] == 1
    assert values(shown, "jobq_workers") == {("default",): 2, ("other",): 0}
    assert values(shown, "jobq_up") == values(not_shown, "jobq_up") == {(): 1}
    assert values(not_shown, "jobq_queue_jobs") == {}


async def test_the_storage_is_shown_by_queue_and_state() -> None:
    clock = ManualClock()
    async with Probe(clock=clock) as storage:
        await add_job(storage)
        clock.advance(90)
        await add_job(storage)
        await add_job(storage, queue="later", run_at=600.0)
        await register_worker(storage, queues=("default", "idle"), lost_after=5.0)
        await register_worker(storage, queues=("idle",), lost_after=50.0)
        clock.advance(10)
        metrics = StorageMetrics(storage)
        assert await metrics.read()
        found = list(metrics.collect())
    jobs, oldest = values(found, "jobq_queue_jobs"), values(found, "jobq_queue_oldest_seconds")
    assert (jobs["default", "pending"], oldest["default", "pending"]) == (2, 100)
    assert (jobs["later", "scheduled"], oldest["later", "scheduled"]) == (1, 10)
    assert (jobs["idle", "pending"], oldest["idle", "pending"]) == (0, 0)
    assert values(found, "jobq_workers") == {("default",): 0, ("idle",): 1, ("later",): 0}
    assert values(found, "jobq_workers_expired") == {(): 1}
    assert values(found, "jobq_up") == {(): 1}


async def test_jobs_that_ended_are_counted_with_their_durations(storage: Probe) -> None:
    async with working(storage, quick, bad) as worker:
        endings = Endings(worker)
        await endings.all(await add_many(storage, [quick(n) for n in range(3)]))
        await endings.of(await add(storage, bad()))
        found = await collect(worker)
    assert values(found, "jobq_jobs_ended_total") == {
        ("quick", "default", "completed"): 3,
        ("bad", "default", "failed"): 1,
    }
    for name in ("jobq_job_waiting_seconds", "jobq_job_running_seconds"):
        assert values(found, f"{name}_count") == {("quick", "default"): 3, ("bad", "default"): 1}
        assert values(found, f"{name}_bucket")["quick", "+Inf", "default"] == 3
        assert values(found, f"{name}_sum")["quick", "default"] > 0


async def test_a_storage_is_read_once_in_a_while(storage: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = StorageMetrics(storage)
    for _ in range(3):
        assert await metrics.read()
    first = values(metrics.collect(), "jobq_queue_jobs")
    await add_job(storage)
    await metrics.read()
    assert values(metrics.collect(), "jobq_queue_jobs") == first == {}
    monkeypatch.setattr(storage_metrics, "READ_SECONDS", 0.0)
    await metrics.read()
    assert values(metrics.collect(), "jobq_queue_jobs")["default", "pending"] == 1


async def test_a_storage_that_is_away_is_not_up_and_its_old_figures_are_not_shown(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> datetime:
        raise StorageUnavailableError("away")

    monkeypatch.setattr(storage_metrics, "READ_SECONDS", 0.0)
    await add_job(storage)
    metrics = StorageMetrics(storage)
    assert await metrics.read()
    monkeypatch.setattr(storage, "now", fail)
    assert not await metrics.read()
    assert [family.name for family in metrics.collect()] == ["jobq_up"]
    assert values(metrics.collect(), "jobq_up") == {(): 0}


async def test_a_storage_that_may_not_be_read_is_up_and_the_log_says_once_what_is_missing(
    storage: Probe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object, **__: object) -> list[StatisticsRecord]:
        raise StorageError("role 'w' lacks a privilege")

    monkeypatch.setattr(storage_metrics, "READ_SECONDS", 0.0)
    monkeypatch.setattr(storage, "statistics", refuse)
    metrics = StorageMetrics(storage)
    assert await metrics.read()
    assert await metrics.read()
    assert caplog.messages == ["the metrics of the storage cannot be read: role 'w' lacks a privilege"]


async def test_a_collection_on_the_event_loop_does_not_wait_for_itself(storage: Probe) -> None:
    async with working(storage, quick) as worker:
        await until(lambda: worker.health().leads)
        await add_job(storage, queue="later", run_at=60.0)
        source = collector(worker)
        assert values(source.collect(), "jobq_up") == {(): 1}
        await until(lambda: ("later", "scheduled") in values(source.collect(), "jobq_queue_jobs"))


# Bounds


def test_a_label_has_a_bounded_number_of_values() -> None:
    labels = Labels(2)
    assert [labels.of(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER, "a", OTHER]


async def test_queues_beyond_the_bound_are_shown_together(storage: Probe) -> None:
    for n in range(MAX_QUEUES + 5):
        await add_job(storage, queue=f"q{n}")
    metrics = StorageMetrics(storage)
    await metrics.read()
    jobs = values(metrics.collect(), "jobq_queue_jobs")
    assert len({queue for queue, _ in jobs}) == MAX_QUEUES + 1
    assert jobs[OTHER, "pending"] == 5


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_duration_is_in_the_buckets_that_its_seconds_fit(bound: float) -> None:
    for seconds, fits in ((bound * 0.999, 1.0), (bound * 1.001, 0.0)):
        found = dict(storage_metrics.cumulative({bucket_of(seconds): 1}))
        assert (found[repr(bound)], found["+Inf"]) == (fits, 1.0)


@pytest.mark.parametrize(("value", "index"), [(0, 0), (1, 0), (1.5, 1), (10, 1), (11, 2)])
def test_a_value_is_counted_in_the_first_bucket_that_reaches_it(value: float, index: int) -> None:
    buckets = Buckets((1, 10))
    buckets.observe(value)
    assert [n for n, count in enumerate(buckets.counts) if count] == [index]


# Totals


def record(minute: int, jobs: int, state: JobState = JobState.COMPLETED) -> StatisticsRecord:
    return StatisticsRecord(
        minute=MINUTE + timedelta(minutes=minute),
        queue="q",
        kind="k",
        state=state,
        jobs=jobs,
        waiting_seconds=jobs * 2.0,
        running_seconds=jobs * 3.0,
        waiting={22: jobs},
        running={24: jobs},
    )


def totals() -> EndedTotals:
    return EndedTotals(Labels(9), Labels(9))


def jobs_of(found: EndedTotals) -> int:
    return sum(total.jobs for total in found.read().values())


def test_totals_grow_by_what_is_new_and_by_what_comes_late() -> None:
    found, now = totals(), MINUTE + timedelta(seconds=30)
    assert found.since(now) == MINUTE - timedelta(minutes=3)
    found.take([record(-1, 4), record(0, 1)], now)
    assert jobs_of(found) == 5
    found.take([record(-1, 6), record(0, 2)], now)
    assert jobs_of(found) == 8
    [total] = found.read().values()
    assert (total.waiting_seconds, total.running_seconds) == (16, 24)
    assert (total.waiting, total.running) == ({22: 8}, {24: 8})


def test_totals_keep_minutes_that_are_not_read_any_more() -> None:
    found = totals()
    for minute in range(20):
        now = MINUTE + timedelta(minutes=minute, seconds=5)
        since = found.since(now)
        found.take([record(n, 10) for n in range(minute + 1) if MINUTE + timedelta(minutes=n) >= since], now)
        assert jobs_of(found) == 10 * (minute + 1)


def test_totals_go_on_after_a_pause_and_start_over_after_a_long_one() -> None:
    found = totals()
    found.since(MINUTE)
    found.take([record(-3, 1), record(0, 1)], MINUTE)
    later = MINUTE + timedelta(minutes=50)
    assert found.since(later) == MINUTE - timedelta(minutes=3)
    found.take([record(-3, 1), record(0, 2), record(49, 1)], later)
    assert jobs_of(found) == 4
    much_later = later + timedelta(hours=30)
    assert found.since(much_later) == much_later - timedelta(minutes=3)
    found.take([], much_later)
    assert jobs_of(found) == 4


# The text


async def test_a_registry_of_the_program_takes_the_collector_and_the_text_has_both(storage: Probe) -> None:
    registry = CollectorRegistry()
    Counter("shop_orders", "Orders.", registry=registry).inc(3)
    async with working(storage, quick) as worker:
        text, content_type = metrics_text([collector(worker), StorageMetrics(storage)], registry=registry)
        registry.register(collector(worker))
    assert content_type.startswith("text/plain")
    assert "shop_orders_total 3.0" in text.decode()
    assert text.decode().count("# TYPE jobq_up ") == 1


async def test_a_client_that_accepts_openmetrics_gets_it(storage: Probe) -> None:
    text, content_type = metrics_text([StorageMetrics(storage)], "application/openmetrics-text")
    assert content_type.startswith("application/openmetrics-text")
    assert text.decode().endswith("# EOF\n")
