"""The handlers and the adder of queues with blocking calls, whose handlers run in threads or forks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from protocol import Adder, Tally


def handlers(
    tally: Tally | None, sleep: float
) -> tuple[Callable[..., None], Callable[..., int], Callable[[float], None]]:
    """Return the handlers `nothing`, `answer` (as `nothing`, with a result) and `stamp`; their threads take turns to
    count, since they share a slot of the tally."""
    one_at_a_time = threading.Lock()

    def count() -> None:
        assert tally is not None
        with one_at_a_time:
            tally.ran()
        if sleep:
            time.sleep(sleep)

    def nothing(n: int, text: str = "") -> None:
        count()

    def answer(n: int, text: str = "") -> int:
        count()
        return n

    def stamp(sent: float) -> None:
        assert tally is not None
        with one_at_a_time:
            tally.picked_up(sent)

    return nothing, answer, stamp


class CallingAdder(Adder):
    """Adds in the loop's thread, and waits for results in others.

    add: adds a `nothing` job. result: adds an `answer` job and returns its result. stamp: adds a `stamp` job.
    """

    def __init__(
        self,
        text: str,
        *,
        add: Callable[[int, str], object],
        result: Callable[[int, str], int],
        stamp: Callable[[float], object],
    ) -> None:
        self._text = text
        self._add = add
        self._result = result
        self._stamp = stamp
        self._threads = ThreadPoolExecutor(100)

    async def __aexit__(self, *error: object) -> None:
        """End the threads."""
        self._threads.shutdown()

    async def one(self, n: int) -> None:
        """Add one."""
        self._add(n, self._text)

    async def ask(self, n: int) -> None:
        """Add a job and wait for its result."""
        loop = asyncio.get_running_loop()
        if await loop.run_in_executor(self._threads, self._result, n, self._text) != n:
            raise RuntimeError("the result of another job")

    async def many(self, count: int) -> None:
        """There is no bulk call."""
        raise NotImplementedError

    async def stamp(self) -> None:
        """Add a job that records when it was added."""
        self._stamp(time.monotonic())
