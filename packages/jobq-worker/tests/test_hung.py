"""Handlers that go on past their time limit: they are counted, and their slots replaced up to a bound."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from jobq_core import JobCompleted, JobFailed, job
from jobq_core.ids import new_id
from jobq_core.states import Ending
from jobq_core.testing import worker_info
from jobq_worker import session
from jobq_worker.running import pipeline
from jobq_worker.running.slots import Slots

from .kit import Endings, Stage, add, add_many, ending, until, working
from .probe import Probe


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "GRACE_SECONDS", 0.01)
    monkeypatch.setattr(session, "END_SECONDS", 0.05)


@pytest.fixture
def hang(stage: Stage) -> Iterator[type]:
    @job(max_attempts=1, timeout=0.01)
    def hang() -> None:
        stage.wait("go on")

    yield hang
    stage.reach("go on")


@job()
def quick() -> int:
    return 1


async def test_hung_threads_get_slots_and_threads_in_their_place(
    storage: Probe, hang: type, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(storage, hang, quick, concurrency=2) as worker:
        ids = await add_many(storage, [hang(), hang()])
        assert all(isinstance(event, JobFailed) for event in await Endings(worker).all(ids))
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)
        health = worker.health()
        assert (health.hung, health.running, health.exhausted, health.healthy) == (2, 2, False, True)
        assert worker.pool_stats().total.hung == 2
        assert [slot.number for slot in worker.pool_stats().workers] == [1, 2]
        assert all(slot.job_id is None for slot in worker.pool_stats().workers)
        stage.reach("go on")
        await until(lambda: worker.health().hung == 0)
        assert worker.health().running == 0
        assert worker.pool_stats().total.failed == 2


async def test_a_coroutine_that_swallows_its_cancellation_counts_as_hung(storage: Probe, stage: Stage) -> None:
    @job(max_attempts=1, timeout=0.01)
    async def deaf() -> None:
        while not stage._gates["go on"].is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await stage.reached("go on")

    async with working(storage, deaf, quick, concurrency=1) as worker:
        assert isinstance(await ending(worker, storage, deaf()), JobFailed)
        assert worker.health().hung == 1
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)
        stage.reach("go on")
        await until(lambda: worker.health().hung == 0)


async def test_beyond_the_bound_the_worker_is_unhealthy_until_some_end(
    storage: Probe, hang: type, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(storage, hang, quick, concurrency=2, max_hung=1) as worker:
        ids = await add_many(storage, [hang(), hang()])
        await Endings(worker).all(ids)
        health = worker.health()
        assert (health.hung, health.exhausted, health.healthy) == (2, True, False)
        assert "2 handlers keep running past their time limit, more than max_hung allows" in caplog.text
        assert isinstance(await ending(worker, storage, quick()), JobCompleted), "one slot was replaced"
        stage.reach("go on")
        await until(lambda: worker.health().healthy)


async def test_the_heartbeat_carries_the_number_of_hung_handlers(storage: Probe, hang: type) -> None:
    async with working(storage, hang, heartbeat_interval=0.01) as worker:
        await Endings(worker).of(await add(storage, hang()))

        async def told() -> bool:
            return (await storage.workers())[0].stats.hung == 1

        await until(told)


def test_a_hung_slot_stays_retired_when_the_pool_grows() -> None:
    slots = Slots(2)
    slot = slots.free.pop()
    slot.job = worker_info()  # type: ignore[assignment]  # any job
    slots.hang(slot)
    slots.resize(0)
    slots.resize(2)
    assert len(slots.free) == 2
    assert (slots.used, slots.hung) == (1, 1)
    slots.give_back(slot)
    assert (slots.used, slots.hung, len(slots.free)) == (0, 0, 2)


def test_what_a_hung_slot_counted_stays_with_its_number() -> None:
    slots = Slots(1)
    slot = slots.free.pop()
    slots.count(slot, Ending.COMPLETE, 1.0)
    slot.job = new_id()  # type: ignore[assignment]
    slots.hang(slot)
    slots.count(slot, Ending.FAIL, 2.0)
    [shown] = slots.each()
    assert (shown.stats.completed, shown.stats.busy_seconds) == (1, 1.0)
    assert (slots.stats().completed, slots.stats().failed, slots.stats().busy_seconds) == (1, 1, 3.0)
    slots.give_back(slot)
    assert (slots.stats().completed, slots.stats().failed, slots.stats().busy_seconds) == (1, 1, 3.0)
