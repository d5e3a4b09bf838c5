"""How jobs are fetched: in which order, how many ahead, in how many calls, and how soon."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

import pytest

from jobq_core import JobCompleted, JobState, job
from jobq_core.storage import SettleAndClaimResult
from jobq_worker.claiming import fetcher, prefetch
from jobq_worker.claiming.fetcher import LINGER_SECONDS

from .kit import (
    Endings,
    Stage,
    add,
    add_many,
    ending,
    pass_time,
    prefetch_always,
    record,
    state,
    until,
    working,
)
from .probe import Probe

ran: list[int] = []


@job()
async def quick(n: int = 0) -> int:
    ran.append(n)
    return n


async def test_jobs_run_by_priority_and_then_in_the_order_of_adding(storage: Probe) -> None:
    ran.clear()
    for n, priority in enumerate([0, 5, -5, 0, 5]):
        await add(storage, quick(n), priority=priority)
    async with working(storage, quick, concurrency=1) as worker:
        await until(lambda: worker.pool_stats().total.completed == 5)
    assert ran == [1, 4, 0, 3, 2]


async def test_each_of_several_queues_gets_its_turn(storage: Probe) -> None:
    async with working(storage, quick, queues=["a", "b", "c"], concurrency=0, poll_interval=600) as worker:
        for queue in "abc":
            await add_many(storage, [quick() for _ in range(200)], queue=queue)
        worker.resize(2)
        await until(lambda: worker.pool_stats().total.completed == 600)
    claims = [args[2].queues for args in storage.arguments["settle_and_claim"] if len(args) > 2 and args[2] is not None]
    firsts = [queues[0] for queues in claims if len(queues) > 1]  # the others' claims ended when they were empty
    # A poll between two claims turns the queues as well, and may bring the same one to the front again.
    assert all(len(set(three)) > 1 for three in zip(firsts, firsts[1:], firsts[2:], strict=False))


async def test_a_worker_takes_jobs_from_its_own_queues_only(storage: Probe) -> None:
    other = await add(storage, quick(), queue="other")
    async with working(storage, quick) as worker:
        await ending(worker, storage, quick())
    assert (await record(storage, other)).attempt == 0


async def test_an_idle_worker_picks_a_job_up_at_once(storage: Probe) -> None:
    async with working(storage, quick, poll_interval=600) as worker:
        await storage.called("promote")
        for n in range(20):
            assert isinstance(await ending(worker, storage, quick(n)), JobCompleted)


async def test_a_worker_without_notifications_polls(storage: Probe) -> None:
    storage.silent = True
    async with working(storage, quick, poll_interval=0.02) as worker:
        await storage.called("settle_and_claim")
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)


async def test_the_last_settlement_does_not_wait_for_others(storage: Probe) -> None:
    async with working(storage, quick, poll_interval=600) as worker:
        await ending(worker, storage, quick())
        took = []
        for n in range(10):
            began = time.monotonic()
            await ending(worker, storage, quick(n))
            took.append(time.monotonic() - began)
        assert min(took) < 0.1  # a timer would delay each of them, a busy machine does not


async def test_a_run_that_ends_beside_a_long_one_is_settled_within_milliseconds(storage: Probe, stage: Stage) -> None:
    @job()
    async def long() -> None:
        stage.reach("started")
        await stage.reached("go on")

    async with working(storage, long, quick, poll_interval=600) as worker:
        endings = Endings(worker)
        hanging = await add(storage, long())
        await stage.reached("started")
        took = []
        for n in range(10):
            began = time.monotonic()
            assert isinstance(await endings.of(await add(storage, quick(n))), JobCompleted)
            took.append(time.monotonic() - began)
        assert min(took) < 0.1  # a timer would delay each of them, a busy machine does not
        stage.reach("go on")
        await endings.of(hanging)


async def test_a_backlog_of_short_jobs_takes_few_calls(storage: Probe) -> None:
    async with working(storage, quick, concurrency=10) as worker:
        worker.resize(0)
        await add_many(storage, [quick(n) for n in range(5000)])
        before = storage.calls["settle_and_claim"]
        worker.resize(10)
        await until(lambda: worker.pool_stats().total.completed == 5000)
        assert storage.calls["settle_and_claim"] - before < 100


async def test_a_worker_with_enough_at_hand_claims_much_or_nothing(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch, "LONGEST_SECONDS", float("inf"))  # a machine that is busy ends no prefetching here,
    monkeypatch.setattr(prefetch, "AHEAD_SECONDS", 50.0)  # nor makes it short
    monkeypatch.setattr(prefetch, "MOST", 200)
    exchange = storage.settle_and_claim

    async def slowly(*args: Any) -> SettleAndClaimResult:
        answer = await exchange(*args)
        await asyncio.sleep(LINGER_SECONDS * 3)  # the storage takes so long; ended runs are overdue
        return answer

    monkeypatch.setattr(storage, "settle_and_claim", slowly)
    async with working(storage, quick, concurrency=10) as worker:
        await add_many(storage, [quick(n) for n in range(6000)])
        await until(lambda: worker.pool_stats().total.completed == 6000)
    limits = [args[2].limit for args in storage.arguments["settle_and_claim"] if args[2] is not None]
    assert min(limits[2:]) > 10  # known by then: how short the jobs are


async def test_runs_that_end_during_an_exchange_are_settled_by_the_next(storage: Probe, stage: Stage) -> None:
    @job()
    async def gated(n: int) -> None:
        stage.reach(f"started {n}")
        await stage.reached(f"go on {n}")

    async with working(storage, gated, concurrency=3, poll_interval=600) as worker:
        ids = await add_many(storage, [gated(n=n) for n in range(3)])
        for n in range(3):
            await stage.reached(f"started {n}")
        endings = Endings(worker)
        gate = storage.hold("settle_and_claim")
        stage.reach("go on 0")
        await storage.called("settle_and_claim")
        stage.reach("go on 1")
        stage.reach("go on 2")
        await until(lambda: worker.health().running == 0)
        before = storage.calls["settle_and_claim"]
        gate.set()
        await endings.all(ids)
        assert len(storage.arguments["settle_and_claim"][before][1]) == 2


async def test_long_jobs_are_not_claimed_ahead(storage: Probe, stage: Stage) -> None:
    @job()
    async def long() -> None:
        await asyncio.sleep(0.03)

    async with working(storage, long, concurrency=2) as worker:
        await add_many(storage, [long() for _ in range(12)])
        await until(lambda: worker.pool_stats().total.completed == 12)
    assert max(args[2].limit for args in storage.arguments["settle_and_claim"] if len(args) > 2 and args[2]) == 2


async def test_jobs_that_a_slow_storage_brings_late_are_run_and_not_handed_back(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefetch_always(monkeypatch)
    async with working(storage, quick, concurrency=1, poll_interval=600) as worker:
        await Endings(worker).all(await add_many(storage, [quick() for _ in range(50)]))
        await until(lambda: worker.health().running == 0)
        gate = storage.hold("settle_and_claim")
        ids = await add_many(storage, [quick(n) for n in range(30)])
        endings = Endings(worker)
        await until(lambda: _is_claimed(storage, ids[-1]))
        pass_time(fetcher.STALE_SECONDS * 1.5)  # as long as the storage takes for its answer
        gate.set()
        await endings.all(ids)
        assert worker.pool_stats().total.released == 0


async def _is_claimed(storage: Probe, job_id: UUID) -> bool:
    return await state(storage, job_id) is JobState.PROCESSING
