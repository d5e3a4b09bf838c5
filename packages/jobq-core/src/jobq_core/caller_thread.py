"""`call_in_caller`: makes a blocking call, such as one over a connection of the caller's, in the caller's thread.

A connection may be bound to its thread (sqlite3, Django). The sync client runs the storage's coroutines on an event
loop of another thread, while the caller's thread waits; it makes these calls meanwhile.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from typing import Any, Final, TypeVar

T = TypeVar("T")


class CallerThread:
    """A thread that waits for a coroutine of an event loop in another thread."""

    def __init__(self) -> None:
        # Not a SimpleQueue, which eventlet does not replace: it would stop all green threads.
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue()

    def wait(self, result: Future[T]) -> T:
        """Wait for the coroutine's result, and make the calls that it asks for."""
        result.add_done_callback(lambda _: self._calls.put(None))
        while (call := self._calls.get()) is not None:
            call()
        return result.result()

    async def call(self, call: Callable[[], T]) -> T:
        """Have the thread call a function, and return what it returns. Called on the event loop.

        What is not an Exception, such as KeyboardInterrupt, ends the thread's wait instead.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def answer_with(set_answer: Callable[[Any], None], value: object) -> None:
            if not answer.done():
                set_answer(value)

        def run() -> None:
            try:
                value = call()
            except Exception as error:  # noqa: BLE001  (raised in the coroutine)
                loop.call_soon_threadsafe(answer_with, answer.set_exception, error)
            else:
                loop.call_soon_threadsafe(answer_with, answer.set_result, value)

        self._calls.put(run)
        return await answer


caller_thread: Final[ContextVar[CallerThread | None]] = ContextVar("caller_thread", default=None)
"""The thread that waits for the present coroutine; None if it was called on its own event loop."""


def run_from_thread(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    """Run a coroutine on the event loop of another thread, wait for its result, and make the calls that it asks for."""
    caller = CallerThread()
    context = copy_context()
    context.run(caller_thread.set, caller)
    future = context.run(asyncio.run_coroutine_threadsafe, coroutine, loop)
    try:
        return caller.wait(future)
    finally:
        future.cancel()  # does nothing to one that is done


async def call_in_caller(call: Callable[[], T]) -> T:
    """Call a blocking function: in the thread that called the sync client, or else here, on the event loop."""
    caller = caller_thread.get()
    return call() if caller is None else await caller.call(call)
