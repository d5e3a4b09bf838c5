"""Limiters against a clock that is moved by hand, and against every window there is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq_core import (
    CompositeLimiter,
    ConcurrencyLimiter,
    ConfigurationError,
    DelayLimiter,
    EvenlySpacedRateLimiter,
    Limiter,
    NullLimiter,
    QueueStorage,
    RateLimiter,
)
from jobq_core.limiters import Grant
from jobq_core.memory import MemoryQueueStorage


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def start(limiter: Limiter, n: int) -> Grant:
    """Acquire up to n and start what was had."""
    grant = await limiter.acquire(n)
    if grant.count:
        await limiter.started(grant.count)
    return grant


async def test_the_null_limiter_lets_everything_through() -> None:
    limiter = NullLimiter()
    assert await start(limiter, 10_000) == Grant(10_000)
    await limiter.release(1)
    await limiter.finished(1)


async def test_concurrency_grants_what_is_free_and_again_when_runs_finish() -> None:
    limiter = ConcurrencyLimiter(2)
    assert await start(limiter, 5) == Grant(2, limiter="concurrency")
    assert await start(limiter, 1) == Grant(0, limiter="concurrency")  # ask again when a run finishes: no time is known
    await limiter.finished(1)
    assert await start(limiter, 5) == Grant(1, limiter="concurrency")


async def test_a_released_place_is_free() -> None:
    limiter = ConcurrencyLimiter(1)
    assert await limiter.acquire() == Grant(1)
    await limiter.release()
    assert await limiter.acquire() == Grant(1)


async def test_concurrent_askers_share_what_there_is() -> None:
    limiter = ConcurrencyLimiter(7)
    grants = await asyncio.gather(*(limiter.acquire(2) for _ in range(10)))
    assert sum(grant.count for grant in grants) == 7


async def test_a_rate_uses_its_burst_and_says_when_to_ask_again() -> None:
    clock = Clock()
    limiter = RateLimiter(3, 10, clock=clock)
    assert (await start(limiter, 5)).count == 3
    clock.now += 4
    assert await start(limiter, 1) == Grant(0, 6.0, "rate")
    clock.now += 6
    assert await start(limiter, 1) == Grant(1)


async def test_a_rate_recovers_after_a_pause() -> None:
    clock = Clock()
    limiter = RateLimiter(3, 10, clock=clock)
    await start(limiter, 3)
    clock.now += 1000
    assert await start(limiter, 3) == Grant(3)


async def test_reserved_starts_that_did_not_happen_do_not_count() -> None:
    clock = Clock()
    limiter = RateLimiter(2, 10, clock=clock)
    assert (await limiter.acquire(2)).count == 2
    assert (await limiter.acquire(1)) == Grant(0, None, "rate")  # two are reserved, none started
    await limiter.release(1)
    await limiter.started(1)
    assert (await limiter.acquire(2)).count == 1


async def test_a_start_counts_from_when_it_happened_and_not_from_when_it_was_reserved() -> None:
    clock = Clock()
    limiter = RateLimiter(1, 10, clock=clock)
    await limiter.acquire(1)
    clock.now += 9
    await limiter.started(1)
    clock.now += 9.9
    assert (await limiter.acquire(1)).count == 0
    clock.now += 0.1
    assert (await limiter.acquire(1)).count == 1


# Multiples of 1/8 s, which floats hold exactly, so that the test may ask for exact windows.
pauses = st.lists(st.tuples(st.integers(0, 40).map(lambda n: n / 8), st.integers(1, 5)), max_size=60)


@given(limit=st.integers(1, 4), eighths=st.integers(1, 40), asked=pauses)
def test_no_window_wherever_it_is_laid_holds_more_starts_than_the_rate(
    limit: int, eighths: int, asked: list[tuple[float, int]]
) -> None:
    per, clock = eighths / 8, Clock()
    limiter = RateLimiter(limit, per, clock=clock)
    starts: list[float] = []

    async def play() -> None:
        for pause, n in asked:
            clock.now += pause
            starts.extend([clock.now] * (await start(limiter, n)).count)

    asyncio.run(play())
    # A window of `per` seconds, open at one end, is fullest when it begins at a start.
    for index, first in enumerate(starts):
        assert sum(first <= moment < first + per for moment in starts[index:]) <= limit


@given(limit=st.integers(1, 4), eighths=st.integers(1, 40), asked=pauses)
def test_a_rate_never_refuses_what_its_windows_allow(limit: int, eighths: int, asked: list[tuple[float, int]]) -> None:
    per, clock = eighths / 8, Clock()
    limiter = RateLimiter(limit, per, clock=clock)

    async def play() -> None:
        starts: list[float] = []
        for pause, n in asked:
            clock.now += pause
            recent = sum(moment > clock.now - per for moment in starts)
            grant = await start(limiter, n)
            assert grant.count == min(n, limit - recent)
            starts.extend([clock.now] * grant.count)

    asyncio.run(play())


@given(limit=st.integers(1, 8), eighths=st.integers(1, 40), asked=pauses)
def test_evenly_spaced_starts_are_never_closer_than_their_gap(
    limit: int, eighths: int, asked: list[tuple[float, int]]
) -> None:
    per, clock = eighths / 8, Clock()
    limiter = EvenlySpacedRateLimiter(limit, per, clock=clock)
    starts: list[float] = []

    async def play() -> None:
        for pause, n in asked:
            clock.now += pause
            starts.extend([clock.now] * (await start(limiter, n)).count)

    asyncio.run(play())
    # The clock's grain: the sums of floats this large are exact to a tenth of a microsecond.
    assert all(later - earlier >= per / limit - 1e-7 for earlier, later in pairwise(starts))


async def test_evenly_spaced_says_when_the_next_may_start() -> None:
    clock = Clock()
    limiter = EvenlySpacedRateLimiter(2, 10, clock=clock)
    assert await start(limiter, 3) == Grant(1, 5.0, "evenly spaced rate")
    clock.now += 2
    assert await start(limiter, 1) == Grant(0, 3.0, "evenly spaced rate")
    clock.now += 3
    assert await start(limiter, 1) == Grant(1)


async def test_evenly_spaced_has_no_burst_after_a_pause() -> None:
    clock = Clock()
    limiter = EvenlySpacedRateLimiter(2, 10, clock=clock)
    clock.now += 1000
    assert (await start(limiter, 5)).count == 1
    assert (await start(limiter, 5)).count == 0


async def test_one_of_many_askers_wins_a_delay() -> None:
    clock = Clock()
    limiter = DelayLimiter(60, clock=clock)
    for _ in range(3):
        grants = await asyncio.gather(*(start(limiter, 1) for _ in range(10)))
        assert sum(grant.count for grant in grants) == 1
        clock.now += 59.5
        assert (await start(limiter, 1)).count == 0
        clock.now += 0.5


async def test_a_window_and_a_gap_may_be_timedeltas() -> None:
    clock = Clock()
    minute = timedelta(minutes=1)
    for limiter in (RateLimiter(1, minute, name="mine", clock=clock), DelayLimiter(minute, name="mine", clock=clock)):
        assert (await limiter.acquire()).count == 1
        await limiter.started()
        assert await limiter.acquire() == Grant(0, 60.0, "mine")


async def test_a_delay_that_was_reserved_and_released_is_free() -> None:
    limiter = DelayLimiter(60, clock=Clock())
    assert (await limiter.acquire()).count == 1
    assert (await limiter.acquire()).count == 0
    await limiter.release()
    assert (await limiter.acquire()).count == 1


async def test_any_member_of_a_composite_blocks_and_the_others_get_theirs_back() -> None:
    clock = Clock()
    concurrency, rate = ConcurrencyLimiter(5), RateLimiter(2, 10, clock=clock)
    both = CompositeLimiter([concurrency, rate])
    assert (await start(both, 4)).count == 2
    assert await concurrency.acquire(5) == Grant(3, limiter="concurrency")  # 2 are used; the rest was rolled back
    await concurrency.release(3)
    assert (await start(both, 1)).count == 0
    assert await concurrency.acquire(5) == Grant(3, limiter="concurrency")


async def test_the_next_time_of_a_composite_is_the_latest_of_its_members() -> None:
    clock = Clock()
    both = CompositeLimiter([RateLimiter(1, 10, clock=clock), DelayLimiter(25, clock=clock), ConcurrencyLimiter(9)])
    assert (await start(both, 1)).count == 1
    assert await both.acquire(1) == Grant(0, 25.0, "delay")


async def test_a_composite_passes_ends_on() -> None:
    members = [ConcurrencyLimiter(1), ConcurrencyLimiter(2)]
    both = CompositeLimiter(members)
    await start(both, 1)
    await both.finished(1)
    assert [(await member.acquire(5)).count for member in members] == [1, 2]


class Failing(ConcurrencyLimiter):
    """Raises from one of its methods, or never returns from it, and notes which were called."""

    def __init__(self, method: str, error: BaseException | None) -> None:
        super().__init__(9, name="failing")
        self.method, self.error = method, error
        self.called: list[str] = []

    async def _call(self, method: str) -> None:
        self.called.append(method)
        if method != self.method:
            return
        if self.error is None:
            await asyncio.Event().wait()
        else:
            raise self.error

    async def open(self, storage: QueueStorage, worker: UUID) -> None:
        await self._call("open")

    async def close(self) -> None:
        await self._call("close")

    async def acquire(self, n: int = 1) -> Grant:
        await self._call("acquire")
        return await super().acquire(n)

    async def started(self, n: int = 1) -> None:
        await self._call("started")
        await super().started(n)

    async def release(self, n: int = 1) -> None:
        await self._call("release")
        await super().release(n)

    async def finished(self, n: int = 1) -> None:
        await self._call("finished")
        await super().finished(n)


ERRORS = [ValueError("no"), asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_composite_gives_back_all_that_was_reserved_before_a_member_raised(error: BaseException) -> None:
    first, last = ConcurrencyLimiter(3), ConcurrencyLimiter(3)
    both = CompositeLimiter([first, Failing("acquire", error), last])
    with pytest.raises(type(error)):
        await both.acquire(2)
    assert (await first.acquire(5)).count == 3
    assert (await last.acquire(5)).count == 3


async def test_a_composite_that_is_cancelled_while_a_member_hangs_gives_back_what_was_reserved() -> None:
    first = ConcurrencyLimiter(3)
    hanging = Failing("acquire", None)
    task = asyncio.ensure_future(CompositeLimiter([first, hanging]).acquire(2))
    await asyncio.sleep(0)  # its first step, up to the member that hangs
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await first.acquire(5)).count == 3


async def test_a_composite_gives_the_rest_back_even_if_a_member_cannot_take_it() -> None:
    last = ConcurrencyLimiter(3)
    both = CompositeLimiter([RateLimiter(1, 60), Failing("release", ValueError("no")), last])
    with pytest.raises(ValueError, match="no"):
        await both.acquire(3)
    assert (await last.acquire(5)).count == 2


@pytest.mark.parametrize("method", ["open", "close", "started", "release", "finished"])
async def test_a_composite_calls_every_member_whatever_one_of_them_raises(method: str) -> None:
    before, after = Failing("", None), Failing("", None)
    all_three = CompositeLimiter([before, Failing(method, ValueError("no")), after])
    arguments = {"open": (MemoryQueueStorage(), uuid4()), "close": ()}.get(method, (1,))
    with pytest.raises(ValueError, match="no"):
        await getattr(all_three, method)(*arguments)
    assert before.called[0] == after.called[0] == method


async def test_a_grant_names_the_limiter_that_granted_less_than_was_asked_for() -> None:
    both = CompositeLimiter([ConcurrencyLimiter(2, name="connections"), RateLimiter(5, 60, name="partner")])
    assert await both.acquire(2) == Grant(2)
    assert (await both.acquire(1)).limiter == "connections"


@pytest.mark.parametrize("make", [ConcurrencyLimiter, DelayLimiter, lambda _, name: RateLimiter(1, 1, name=name)])
def test_a_name_must_be_text_of_1_to_255_characters(make: Any) -> None:
    for name in ("", "x" * 256, 5):
        with pytest.raises(ConfigurationError, match="the name of a limiter"):
            make(1, name=name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConcurrencyLimiter(0),
        lambda: ConcurrencyLimiter(-1),
        lambda: ConcurrencyLimiter(1.5),  # type: ignore[arg-type]
        lambda: ConcurrencyLimiter(True),
        lambda: RateLimiter(0, 1),
        lambda: RateLimiter(1, 0),
        lambda: RateLimiter(1, -1),
        lambda: RateLimiter(1, float("inf")),
        lambda: RateLimiter(1, float("nan")),
        lambda: EvenlySpacedRateLimiter(0, 1),
        lambda: EvenlySpacedRateLimiter(1, 0),
        lambda: DelayLimiter(0),
        lambda: DelayLimiter(-1),
        lambda: CompositeLimiter([]),
        lambda: CompositeLimiter([5]),  # type: ignore[list-item]
        lambda: CompositeLimiter(5),  # type: ignore[arg-type]
        lambda: ConcurrencyLimiter(1, scope=10**5000),  # type: ignore[arg-type]
        lambda: EvenlySpacedRateLimiter(10**5000, 1),
        lambda: ConcurrencyLimiter(1, scope="everywhere"),  # type: ignore[arg-type]
    ],
)
def test_values_that_cannot_be_are_refused_when_it_is_made(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError):
        make()
