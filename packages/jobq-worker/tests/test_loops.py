"""The one background loop: it waits, acts, and backs off."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

import pytest

from jobq_core.errors import StorageUnavailableError
from jobq_core.retry import Backoff
from jobq_worker import outages
from jobq_worker.loops import UNTIL_WOKEN, Loop, retry
from jobq_worker.outages import Outages

from .kit import until

LONG = Backoff(base=600, maximum=600)


class Script:
    """Work that records whether it was woken, and does one step of a list at each call; then it ends its loop."""

    def __init__(self, *steps: float | Exception) -> None:
        self.steps = list(steps)
        self.woken: list[bool] = []

    async def __call__(self, woken: bool) -> float | None:
        self.woken.append(woken)
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        return step


def loop_of(work: Callable[[bool], Awaitable[float | None]]) -> tuple[Loop, asyncio.Task[None]]:
    loop = Loop("part", work, Outages("worker w"))
    return loop, asyncio.create_task(loop.run())


async def test_work_follows_after_the_pause_that_it_asked_for() -> None:
    work = Script(0.01, 0)
    _, task = loop_of(work)
    await task
    assert work.woken == [False, False, False]


async def test_a_loop_that_is_woken_works_at_once() -> None:
    work = Script(UNTIL_WOKEN)
    loop, task = loop_of(work)
    await until(lambda: loop.is_waiting)
    loop.wake()
    await task
    assert work.woken == [False, True]


async def test_being_woken_during_work_is_not_missed() -> None:
    loops: list[Loop] = []
    woken: list[bool] = []

    async def work(was_woken: bool) -> float | None:
        woken.append(was_woken)
        if was_woken:
            return None
        loops[0].wake()
        return UNTIL_WOKEN

    loop, task = loop_of(work)
    loops.append(loop)
    await task
    assert woken == [False, True]


async def test_what_threads_leave_before_they_wake_the_loop_is_never_missed() -> None:
    left: deque[int] = deque()
    taken: list[int] = []

    async def work(_woken: bool) -> float | None:
        taken.extend(left.popleft() for _ in range(len(left)))
        return None if len(taken) == 3000 else UNTIL_WOKEN

    loop, task = loop_of(work)

    def leave(start: int) -> None:
        for number in range(start, start + 1000):
            left.append(number)
            loop.wake_from_thread()

    await asyncio.gather(*(asyncio.to_thread(leave, start) for start in (0, 1000, 2000)))
    async with asyncio.timeout(10):
        await task
    assert sorted(taken) == list(range(3000))


async def test_many_calls_of_a_thread_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Script(UNTIL_WOKEN, UNTIL_WOKEN)
    loop, task = loop_of(work)
    await until(lambda: loop.is_waiting)
    wakes = 0

    def wake() -> None:
        nonlocal wakes
        wakes += 1
        Loop.wake(loop)

    monkeypatch.setattr(loop, "wake", wake)
    for _ in range(100):
        loop.wake_from_thread()
    await until(lambda: len(work.woken) == 2)
    assert wakes == 1
    for _ in range(100):
        loop.wake_from_thread()
    await task
    assert wakes == 2


def test_to_wake_a_loop_whose_event_loop_is_closed_does_nothing() -> None:
    async def make() -> Loop:
        return Loop("part", Script(), Outages("w"))

    asyncio.run(make()).wake_from_thread()


async def test_an_error_is_an_outage_and_the_work_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.001))
    work = Script(StorageUnavailableError("away"), RuntimeError("odd"))
    _, task = loop_of(work)
    await task
    assert work.woken == [False, True, True]


async def test_waking_does_not_cut_a_backoff_short_and_hurrying_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "BACKOFF", LONG)
    work = Script(StorageUnavailableError("away"))
    loop, task = loop_of(work)
    await until(lambda: bool(work.woken))
    loop.wake()
    await asyncio.sleep(0)
    assert len(work.woken) == 1
    loop.hurry()
    await task
    assert len(work.woken) == 2


async def test_hurrying_cuts_the_next_backoff_short_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "BACKOFF", LONG)
    work = Script(StorageUnavailableError("away"))
    loop, task = loop_of(work)
    loop.hurry()
    async with asyncio.timeout(10):
        await task


async def test_retrying_ends_with_the_first_success(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.001))
    caplog.set_level(logging.WARNING)
    work = Script(StorageUnavailableError("away"), StorageUnavailableError("away"))
    own = Outages("worker w")
    await retry("registration", lambda: work(False), own)
    assert len(work.woken) == 3
    assert not own.now


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, GeneratorExit])
async def test_an_error_outside_exception_ends_a_loop_only_if_the_loop_was_cancelled(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.01))
    calls = 0

    async def work(_woken: bool) -> float | None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise error
        return None if calls == 3 else 0.0

    await Loop("part", work, Outages("w")).run()
    assert calls == 3

    calls = 0
    await retry("part", lambda: work(False), Outages("w"))
    assert calls == 3


async def test_a_cancelled_loop_ends() -> None:
    async def work(_woken: bool) -> float | None:
        await asyncio.Event().wait()
        return None

    task = asyncio.ensure_future(Loop("part", work, Outages("w")).run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
