"""How a thread sees that an event loop does not answer, and what the log says of it."""

from __future__ import annotations

import asyncio
import os
import selectors
import threading

import pytest

from jobq_worker.liveness.loop_watch import TICK_SECONDS, LagLog, LoopWatch

from .kit import until


class Ticking:
    """A watch by a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.watch = LoopWatch(lambda: self.now)
        self.log = LagLog("w", self.watch, lost_after=30.0)

    def after(self, seconds: float) -> float:
        """Let time pass, and ask."""
        self.now += seconds
        lag = self.watch.tick()
        self.log.take(lag)
        return lag


@pytest.fixture
async def ticking() -> Ticking:
    return Ticking()


async def test_a_loop_that_answers_has_no_lag(ticking: Ticking) -> None:
    for _ in range(3):
        assert ticking.after(TICK_SECONDS) == 0.0
        await asyncio.sleep(0)
    assert ticking.watch.take_worst() == 0.0


async def test_a_loop_that_does_not_answer_lags_until_it_does(ticking: Ticking) -> None:
    assert [ticking.after(0.5) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]
    await asyncio.sleep(0)
    assert ticking.after(0.5) == 0.0
    assert ticking.watch.take_worst() == 1.5
    assert ticking.watch.take_worst() == 0.0


async def test_a_pause_of_the_whole_process_does_not_count(ticking: Ticking) -> None:
    ticking.after(0.5)
    assert ticking.after(3600.0) == 2 * TICK_SECONDS


async def test_the_log_has_the_stack_that_blocks_the_loop_once_and_again_rarely(
    ticking: Ticking, caplog: pytest.LogCaptureFixture
) -> None:
    def this_blocks() -> None:
        for _ in range(50):
            ticking.after(0.5)

    this_blocks()
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(";")[0] for line in said] == [
        "worker w: the event loop has been blocked for 1.0 s",
        "worker w: the event loop has been blocked for 4.0 s",
        "worker w: the event loop has been blocked for 16.0 s",
    ]
    assert all("in this_blocks\n" in line for line in said)


async def test_the_log_says_when_the_lease_is_let_go_and_when_the_loop_is_back(
    ticking: Ticking, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(62):
        ticking.after(0.5)
    [said] = [r.getMessage() for r in caplog.records if "lets its lease run out" in r.getMessage()]
    assert said.startswith("worker w: the event loop has been blocked for 30.0 s; the worker lets its lease run out")
    await asyncio.sleep(0)
    ticking.after(0.5)
    assert caplog.records[-1].getMessage() == "worker w: the event loop responds again, after 30.5 s"
    caplog.clear()
    ticking.after(0.5)
    ticking.after(0.5)
    assert len(caplog.records) == 1, "the next blockage is logged again"


async def test_the_stack_is_that_of_the_loop_and_not_of_the_thread_that_asks() -> None:
    watch, stacks = LoopWatch(), []
    thread = threading.Thread(target=lambda: stacks.append(watch.stack()))
    thread.start()
    thread.join()
    assert "test_the_stack_is_that_of_the_loop" in stacks[0]


async def test_an_idle_loop_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = LoopWatch(lambda: 0.0)

    def look() -> list[float]:
        while not watch._is_idle():
            threading.Event().wait(0.001)
        with monkeypatch.context() as patch:
            patch.setattr(watch._loop, "call_soon_threadsafe", None)
            return [watch.tick() for _ in range(3)]

    assert await asyncio.to_thread(look) == [0.0] * 3


async def test_a_selector_of_a_handler_is_not_that_of_the_loop() -> None:
    watch = LoopWatch(lambda: 0.0)
    found: list[bool] = []
    reading, writing = os.pipe()

    def look() -> None:
        while "in select" not in watch.stack():
            threading.Event().wait(0.001)
        found.append(watch._is_idle())
        os.write(writing, b"x")

    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        threading.Thread(target=look).start()
        selector.select()  # as in a coroutine that blocks its loop
    os.close(reading)
    os.close(writing)
    assert found == [False]


async def test_a_closed_loop_is_not_watched() -> None:
    watches: list[LoopWatch] = []

    async def make() -> None:
        watches.append(LoopWatch(lambda: 0.0))

    thread = threading.Thread(target=lambda: asyncio.run(make()))
    thread.start()
    await until(lambda: not thread.is_alive())
    assert [watches[0].tick() for _ in range(3)] == [0.0] * 3
    assert watches[0].stack() == "  (its thread has ended)\n"
