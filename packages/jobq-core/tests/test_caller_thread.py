"""Blocking functions that run in the caller's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextvars import copy_context
from typing import Any, TypeVar

import pytest

from jobq_core.caller_thread import CallerThread, call_in_caller, caller_thread

T = TypeVar("T")


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def wait(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine on the loop, and make its calls."""
    caller = CallerThread()
    context = copy_context()
    context.run(caller_thread.set, caller)
    result = context.run(asyncio.run_coroutine_threadsafe, coroutine, loop)
    try:
        return caller.wait(result)
    finally:
        result.cancel()


def refuse() -> None:
    raise ValueError("no")


def interrupt() -> None:
    raise KeyboardInterrupt


async def test_without_a_caller_in_another_thread_it_is_called_here() -> None:
    assert await call_in_caller(threading.get_ident) == threading.get_ident()
    with pytest.raises(ValueError, match="no"):
        await call_in_caller(refuse)


def test_calls_run_in_the_thread_that_waits_one_after_another(loop: asyncio.AbstractEventLoop) -> None:
    async def ask() -> list[int]:
        with pytest.raises(ValueError, match="no"):
            await call_in_caller(refuse)
        return [await call_in_caller(threading.get_ident), await call_in_caller(threading.get_ident)]

    assert wait(loop, ask()) == [threading.get_ident()] * 2


def test_an_error_of_the_coroutine_is_raised_by_the_wait(loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(ValueError, match="no"):
        wait(loop, call_in_caller(refuse))


def test_an_interrupt_in_a_call_ends_the_wait_and_not_the_event_loop(loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(KeyboardInterrupt):
        wait(loop, call_in_caller(interrupt))
    assert wait(loop, call_in_caller(threading.get_ident)) == threading.get_ident()


def test_the_answer_to_a_coroutine_that_was_cancelled_is_dropped(loop: asyncio.AbstractEventLoop) -> None:
    async def give_up() -> None:
        async with asyncio.timeout(0):
            await call_in_caller(threading.get_ident)

    with pytest.raises(TimeoutError):
        wait(loop, give_up())
    assert wait(loop, call_in_caller(threading.get_ident)) == threading.get_ident()
