"""Limiters in a worker: nothing is claimed that may not start."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest

from jobq_core import (
    CompositeLimiter,
    ConcurrencyLimiter,
    DelayLimiter,
    EvenlySpacedRateLimiter,
    JobCompleted,
    JobFailed,
    JobState,
    Limiter,
    RateLimiter,
    job,
)
from jobq_core.limiters import Grant

from .kit import Endings, Stage, add, add_many, ending, state, until, working
from .probe import Probe


@job()
async def quick() -> None: ...


class Watched(Limiter):
    """Passes everything on, and keeps the sums, and when the starts were.

    The time is taken before the limiter takes its own, so that what the limiter promises holds for these times exactly.
    """

    def __init__(self, inner: Limiter) -> None:
        self.inner = inner
        self.starts: list[float] = []
        self.sums = {"acquired": 0, "started": 0, "released": 0, "finished": 0}

    async def acquire(self, n: int = 1) -> Grant:
        grant = await self.inner.acquire(n)
        self.sums["acquired"] += grant.count
        return grant

    async def started(self, n: int = 1) -> None:
        self.sums["started"] += n
        self.starts += [time.monotonic()] * n
        await self.inner.started(n)

    async def release(self, n: int = 1) -> None:
        self.sums["released"] += n
        await self.inner.release(n)

    async def finished(self, n: int = 1) -> None:
        self.sums["finished"] += n
        await self.inner.finished(n)

    def balanced(self) -> bool:
        """Whether each start that was had was begun or given back, and each that began is over."""
        sums = self.sums
        return sums["acquired"] == sums["started"] + sums["released"] and sums["started"] == sums["finished"]


@pytest.mark.parametrize("nature", ["async", "thread"])
async def test_concurrency_two_with_ten_workers_never_runs_three_at_once(
    storage: Probe, stage: Stage, nature: str
) -> None:
    now, most = 0, 0

    def enter() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 2:
            stage.reach("two")

    def leave() -> None:
        nonlocal now
        now -= 1

    @job(name="act")
    async def in_loop() -> None:
        enter()
        await stage.reached("two")
        await asyncio.sleep(0.001)
        leave()

    @job(name="act")
    def in_thread() -> None:
        enter()
        stage.wait("two")
        time.sleep(0.001)
        leave()

    act = in_loop if nature == "async" else in_thread
    limiter = Watched(ConcurrencyLimiter(2))
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(working(storage, act, limiter=limiter, poll_interval=0.01))
            for _ in range(10)
        ]
        await add_many(storage, [act() for _ in range(60)])
        await until(lambda: sum(worker.pool_stats().total.completed for worker in workers) == 60)
    assert most == 2
    assert limiter.balanced()


async def test_no_grant_means_no_claim(storage: Probe, stage: Stage) -> None:
    @job()
    async def gated() -> None:
        stage.reach("started")
        await stage.reached("go on")

    async with working(storage, gated, limiter=ConcurrencyLimiter(1)) as worker:
        endings = Endings(worker)
        first = await add(storage, gated())
        await stage.reached("started")
        second = await add(storage, gated())
        await storage.called("check_leases")  # it looked around since
        assert await state(storage, second) is JobState.PENDING
        stage.reach("go on")
        assert all(isinstance(event, JobCompleted) for event in await endings.all([first, second]))


async def test_a_burst_is_used_and_then_nothing_starts(storage: Probe) -> None:
    # The window outlasts the test: that five ended shows the burst, however slow the machine.
    limiter = Watched(RateLimiter(5, 600))
    async with working(storage, quick, limiter=limiter, poll_interval=0.01) as worker:
        ids = await add_many(storage, [quick() for _ in range(23)])
        await until(lambda: worker.pool_stats().total.completed == 5)
    states = [found.state for found in await storage.get(ids) if found is not None]
    assert states == [JobState.COMPLETED] * 5 + [JobState.PENDING] * 18
    assert limiter.sums["started"] == 5


async def test_never_more_starts_in_any_window_and_all_get_their_turn(storage: Probe) -> None:
    limiter = Watched(RateLimiter(5, 0.2))
    async with working(storage, quick, limiter=limiter) as worker:
        await Endings(worker).all(await add_many(storage, [quick() for _ in range(23)]))
    starts = limiter.starts
    assert all(later - earlier >= 0.2 for earlier, later in zip(starts, starts[5:], strict=False))


async def test_evenly_spaced_starts_keep_their_distance(storage: Probe) -> None:
    limiter = Watched(EvenlySpacedRateLimiter(10, 0.5))
    async with working(storage, quick, limiter=limiter, poll_interval=600) as worker:  # the limiter's time wakes it
        await Endings(worker).all(await add_many(storage, [quick() for _ in range(6)]))
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(limiter.starts))


async def test_long_jobs_start_evenly_spaced_too(storage: Probe, stage: Stage) -> None:
    @job()
    async def long(n: int) -> None:
        stage.reach(f"started {n}")
        await stage.reached("go on")

    limiter = Watched(EvenlySpacedRateLimiter(10, 0.5))
    async with working(storage, long, limiter=limiter, poll_interval=600) as worker:
        endings = Endings(worker)
        ids = await add_many(storage, [long(n=n) for n in range(4)])
        for n in range(4):
            await stage.reached(f"started {n}")
        stage.reach("go on")
        await endings.all(ids)
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(limiter.starts))


async def test_a_rate_is_asked_again_once_its_starts_have_begun(storage: Probe, stage: Stage) -> None:
    @job()
    async def long(n: int) -> None:
        stage.reach(f"started {n}")
        await stage.reached("go on")

    limiter = Watched(RateLimiter(2, 0.1))
    async with working(storage, long, limiter=limiter, poll_interval=600) as worker:
        endings = Endings(worker)
        ids = await add_many(storage, [long(n=n) for n in range(6)])
        for n in range(6):
            await stage.reached(f"started {n}")
        stage.reach("go on")
        await endings.all(ids)


async def test_one_start_per_delay_over_several_workers(storage: Probe) -> None:
    limiter = Watched(DelayLimiter(0.1))
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(working(storage, quick, limiter=limiter, poll_interval=0.01))
            for _ in range(4)
        ]
        await add_many(storage, [quick() for _ in range(5)])
        await until(lambda: sum(worker.pool_stats().total.completed for worker in workers) == 5)
    assert all(later - earlier >= 0.1 for earlier, later in pairwise(limiter.starts))


async def test_all_of_a_composite_hold(storage: Probe) -> None:
    concurrency, rate = Watched(ConcurrencyLimiter(3)), Watched(RateLimiter(4, 0.1))
    async with working(storage, quick, limiter=CompositeLimiter([concurrency, rate])) as worker:
        await Endings(worker).all(await add_many(storage, [quick() for _ in range(12)]))
    starts = rate.starts
    assert all(later - earlier >= 0.1 for earlier, later in zip(starts, starts[4:], strict=False))
    assert concurrency.balanced()
    assert rate.balanced()


async def test_a_job_past_its_deadline_holds_no_place(storage: Probe) -> None:
    limiter = Watched(ConcurrencyLimiter(1))
    storage.fail("expire", 100)  # the worker is to find it by its claim
    late = await add(storage, quick(), deadline=0)
    async with working(storage, quick, limiter=limiter) as worker:
        endings = Endings(worker)
        assert isinstance(await endings.of(late), JobFailed)
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)
    assert limiter.balanced()
    assert limiter.sums["started"] == 1


@pytest.mark.parametrize("ends", ["raises", "is aborted", "is handed back", "is abandoned", "is of an unknown kind"])
async def test_however_a_run_ends_its_place_is_free(storage: Probe, stage: Stage, ends: str) -> None:
    @job(max_attempts=1)
    async def act() -> None:
        stage.reach("started")
        if ends == "raises":
            raise ValueError
        await asyncio.Event().wait()

    @job(name="act")
    def deaf() -> None:
        stage.reach("started")
        stage.wait("go on")

    limiter = Watched(ConcurrencyLimiter(1))
    mine: Any = {"is abandoned": deaf, "is of an unknown kind": quick}.get(ends, act)
    async with working(storage, mine, limiter=limiter) as worker:
        job_id = await add(storage, act())
        if ends == "is of an unknown kind":
            await until(lambda: worker.pool_stats().total.unknown_kinds)
        else:
            await stage.reached("started")
        if ends == "is aborted":
            await storage.abort([job_id])
            await until(lambda: worker.pool_stats().total.aborted)
        await worker.stop(0)
        assert limiter.balanced()
    stage.reach("go on")


async def test_places_are_given_back_when_the_storage_fails(storage: Probe) -> None:
    limiter = Watched(ConcurrencyLimiter(2))
    async with working(storage, quick, limiter=limiter) as worker:
        await ending(worker, storage, quick())
        storage.fail("settle_and_claim", 1)
        storage.fail("settle_and_claim", 1, after=True)
        endings = Endings(worker)
        ids = await add_many(storage, [quick() for _ in range(6)])
        assert all(isinstance(event, JobCompleted) for event in await endings.all(ids))
    assert limiter.balanced()


async def test_a_start_is_counted_just_before_the_handler_is_called(storage: Probe, stage: Stage) -> None:
    limiter = Watched(ConcurrencyLimiter(1))

    @job()
    async def note() -> None:
        stage.notes.append(limiter.sums["started"])

    async with working(storage, note, limiter=limiter) as worker:
        await Endings(worker).all(await add_many(storage, [note(), note()]))
    assert stage.notes == [1, 2]


async def test_a_limiter_that_fails_costs_no_job(storage: Probe) -> None:
    class Broken(ConcurrencyLimiter):
        broken = True

        async def started(self, n: int = 1) -> None:
            if self.broken:
                self.broken = False
                raise OSError("the limiter's own storage is away")

    async with working(storage, quick, limiter=Broken(1)) as worker:
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)
        assert worker.pool_stats().total.released == 1


async def test_a_stop_while_a_start_is_reported_to_the_limiter_runs_nothing(storage: Probe, stage: Stage) -> None:
    class Slow(ConcurrencyLimiter):
        async def started(self, n: int = 1) -> None:
            stage.reach("asked")
            await stage.reached("go on")

    @job()
    async def never() -> None:
        stage.notes.append("ran")

    limiter = Watched(Slow(1))
    async with working(storage, never, limiter=limiter) as worker:
        job_id = await add(storage, never())
        await stage.reached("asked")
        stopping = asyncio.ensure_future(worker.stop(0))
        await until(lambda: worker.pool_stats().total.running == 0)  # it was abandoned
        stage.reach("go on")
        await stopping
    assert stage.notes == []
    assert await state(storage, job_id) is JobState.PENDING
    assert limiter.balanced()
