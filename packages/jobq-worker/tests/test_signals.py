"""Signals as they are counted, forwarded, and left to a child."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import threading
from typing import Any

import pytest

from jobq_worker.liveness.loop_watch import LoopWatch
from jobq_worker.processes import signals as signals_module
from jobq_worker.processes.signals import STOPPING, Receiver, SignalCounter, Signals
from jobq_worker.processes.stop_guard import StopGuard


@pytest.fixture
async def guard() -> StopGuard:
    return StopGuard(600.0, LoopWatch())


def test_signals_within_a_second_of_a_counted_one_are_the_same() -> None:
    now = 0.0
    counter = SignalCounter(lambda: now)
    counted = []
    for now in (0.0, 0.3, 0.99, 1.0, 1.5, 2.5):
        if counter.add():
            counted.append(now)
    assert counted == [0.0, 1.0, 2.5]
    assert counter.count == 3


async def test_a_signal_is_received_and_handlers_are_restored(guard: StopGuard) -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    with Signals(guard) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        await signals.wait()
    assert [signal.getsignal(number) for number in STOPPING] == before


async def test_the_thread_that_receives_signals_may_begin_after_its_worker_has_left(
    guard: StopGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, serve = threading.Event(), Receiver._serve

    def serve_late(receiver: Receiver) -> None:
        assert go_on.wait(30)
        serve(receiver)

    monkeypatch.setattr(Receiver, "_serve", serve_late)
    monkeypatch.setattr(signals_module, "CHECK_SECONDS", 0.01)
    with Signals(guard):
        assert Receiver.active is not None
        thread = Receiver.active._thread
    go_on.set()
    thread.join(30)
    assert not thread.is_alive()


async def test_a_signal_that_comes_while_the_handlers_are_installed_is_received(
    guard: StopGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = signal.signal

    def install_and_signal(number: int, handler: Any) -> Any:
        before = install(number, handler)
        if number == signal.SIGTERM and callable(handler):
            signal.raise_signal(signal.SIGTERM)
        return before

    class Prompt(threading.Thread):
        def start(self) -> None:
            super().start()
            reading = self._target.__self__._reading  # type: ignore[attr-defined]
            while select.select([reading], [], [], 0)[0]:
                pass

    with monkeypatch.context() as context:
        context.setattr(signal, "signal", install_and_signal)
        context.setattr(threading, "Thread", Prompt)
        signals = Signals(guard).__enter__()
    async with asyncio.timeout(30):
        await signals.wait()
    signals.__exit__(None, None, None)


async def test_a_program_keeps_the_other_signals_that_it_handles(guard: StopGuard) -> None:
    """Whether their handlers were added before or after."""
    loop, early, late = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, early.set)
    try:
        with Signals(guard) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            await early.wait()
            loop.add_signal_handler(signal.SIGUSR2, late.set)
            os.kill(os.getpid(), signal.SIGTERM)
            await signals.wait()
            os.kill(os.getpid(), signal.SIGUSR2)
            await late.wait()
        early.clear()
        os.kill(os.getpid(), signal.SIGUSR1)
        await early.wait()
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        loop.remove_signal_handler(signal.SIGUSR2)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_forked_child_has_the_default_handlers_and_its_parent_its_own(guard: StopGuard) -> None:
    with Signals(guard) as signals:
        own = [signal.getsignal(number) for number in STOPPING]
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        child = os.fork()
        if child == 0:
            handlers = [signal.getsignal(number) for number in STOPPING]
            reset = handlers == [signal.SIG_DFL, signal.default_int_handler]
            unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
            os._exit(0 if reset and unblocked and signal.set_wakeup_fd(-1) == -1 else 1)
        assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
        assert [signal.getsignal(number) for number in STOPPING] == own
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
        os.kill(os.getpid(), signal.SIGTERM)
        await signals.wait()


async def test_workers_of_one_process_all_receive_a_signal_and_end_in_any_order(guard: StopGuard) -> None:
    before = [signal.getsignal(number) for number in STOPPING]
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    first, second = Signals(guard), Signals(guard)
    with contextlib.ExitStack() as second_ends:
        with first:
            second_ends.enter_context(second)
            os.kill(os.getpid(), signal.SIGTERM)
            await first.wait()
            await second.wait()
        third = Signals(guard)
        with third:
            os.kill(os.getpid(), signal.SIGINT)
            await third.wait()
    assert [signal.getsignal(number) for number in STOPPING] == before
    now = signal.set_wakeup_fd(wakeup)
    assert now == wakeup
