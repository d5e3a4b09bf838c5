"""Blocking functions that run in the caller's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from jobq_core.caller_thread import call_in_caller, run_from_thread


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

    assert run_from_thread(ask(), loop) == [threading.get_ident()] * 2


def test_an_error_of_the_coroutine_is_raised_by_the_wait(loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(ValueError, match="no"):
        run_from_thread(call_in_caller(refuse), loop)


def test_an_interrupt_in_a_call_ends_the_wait_and_not_the_event_loop(loop: asyncio.AbstractEventLoop) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_from_thread(call_in_caller(interrupt), loop)
    assert run_from_thread(call_in_caller(threading.get_ident), loop) == threading.get_ident()


def test_the_answer_to_a_coroutine_that_was_cancelled_is_dropped(loop: asyncio.AbstractEventLoop) -> None:
    async def give_up() -> None:
        async with asyncio.timeout(0):
            await call_in_caller(threading.get_ident)

    with pytest.raises(TimeoutError):
        run_from_thread(give_up(), loop)
    assert run_from_thread(call_in_caller(threading.get_ident), loop) == threading.get_ident()
