"""`Loop`: the background loop of a worker's components (wait, act, back off); and `retry`, which acts once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from jobq_core.events import is_cancellation
from jobq_worker.outages import Outages

UNTIL_WOKEN: Final = float("inf")
"""The pause of a loop that acts when it is woken, and at no other time."""


class Loop:
    """Calls `work(woken)` again and again: after the seconds that it returned, or when `wake` is called.

    woken: whether `wake` was called since the last call, or that call failed. Work that returns None ends the loop. An
    error never does, not even SystemExit or CancelledError of something that it called: it is recorded as an outage of
    `part`, and the next call follows after a backoff.
    """

    def __init__(self, part: str, work: Callable[[bool], Awaitable[float | None]], outages: Outages) -> None:
        self._loop = asyncio.get_running_loop()
        self._part = part
        self._work = work
        self._outages = outages
        self._woken = False
        self._hurried = False
        self._waiter: asyncio.Future[None] | None = None
        self._backing_off = False
        self._called = False
        self.is_waiting = False
        """Whether the loop waits, so that `wake` has an effect at once."""

    def wake(self) -> None:
        """Call `work` at once, or again if it is under way; a backoff is not cut short. Call it on the event loop."""
        self._woken = True
        if not self._backing_off:
            self._continue()

    def wake_from_thread(self) -> None:
        """Do as `wake`, in any thread. Until the next call of `work` begins, further calls cost the event loop nothing.

        Work that reads what the threads left before they called this misses nothing. Once the event loop is closed,
        nothing happens.
        """
        if not self._called:
            self._called = True
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self.wake)

    def hurry(self) -> None:
        """Call `work` at once, and cut the present backoff, or the next one, short."""
        self._woken = self._hurried = True
        self._continue()

    async def run(self) -> None:
        """Work until `work` returns None, or until cancelled."""
        while True:
            # Cleared before the work: a thread that has something new for it meanwhile wakes the loop again.
            self._called = False
            woken, self._woken = self._woken, False
            try:
                pause = await self._work(woken)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) or is_cancellation(error):
                    raise
                await self._back_off(self._outages.record_failure(self._part, error))
                continue
            if pause is None:
                return
            if pause > 0 and not self._woken:
                await self._wait(pause)

    async def _back_off(self, seconds: float) -> None:
        self._backing_off = True
        try:
            if not self._hurried:
                await self._wait(seconds)
        finally:
            self._backing_off = self._hurried = False
        self._woken = True

    async def _wait(self, seconds: float) -> None:
        waiter = self._waiter = self._loop.create_future()
        self.is_waiting = not self._backing_off
        timer = None if seconds == UNTIL_WOKEN else self._loop.call_later(seconds, self._continue)
        try:
            await waiter
        finally:
            self._waiter = None
            self.is_waiting = False
            if timer is not None:
                timer.cancel()

    def _continue(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def retry(part: str, work: Callable[[], Awaitable[object]], outages: Outages) -> None:
    """Call `work` until it succeeds, with a backoff after each failure."""

    async def work_once(_woken: bool) -> None:
        await work()
        outages.record_success(part)

    await Loop(part, work_once, outages).run()
