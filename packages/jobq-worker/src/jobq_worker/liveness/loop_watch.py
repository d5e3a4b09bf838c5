"""`LoopWatch`: asks an event loop, from another thread, whether it still answers; `LagLog` says so in the log."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from jobq_worker.stacks import thread_stack

logger = logging.getLogger("jobq.worker")

UNANSWERED_SECONDS: Final = 1.0
"""Time without an answer after which an event loop counts as blocked."""
TICK_SECONDS: Final = 0.5
"""Maximum interval between two questions to the event loop."""
MAX_STACK: Final = 30
"""Maximum number of frames of a stack in the log: the innermost ones."""
AGAIN_FACTOR: Final = 4.0
"""The stack is logged again when the lag has grown by this factor."""

_RUN_ONCE: Final = asyncio.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]


class LoopWatch:
    """Knows for how long the event loop that made it has not answered.

    Another thread calls `tick` at least every TICK_SECONDS. A pause of the whole process, such as SIGSTOP, is not
    counted: between two ticks at most twice TICK_SECONDS are.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._clock = clock
        self._answered = True
        self._ticked_at = clock()
        self.lag = 0.0
        """Seconds for which the loop has not answered; 0 while it answers."""
        self.worst = 0.0
        """The greatest lag since `take_worst`."""

    def tick(self) -> float:
        """Ask the loop again if it has answered the last question; return the lag. An idle loop is not woken."""
        now = self._clock()
        step = min(now - self._ticked_at, 2 * TICK_SECONDS)
        self._ticked_at = now
        if self._is_idle():
            self.lag = 0.0
        elif self._answered:
            self.lag = 0.0
            self._ask()
        else:
            self.lag += step
            self.worst = max(self.worst, self.lag)
        return self.lag

    def _ask(self) -> None:
        self._answered = False
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed: there is nothing to watch
            self._answered = True

    def _is_idle(self) -> bool:
        """Return whether the loop waits for events. Looking costs less than waking it; uvloop cannot be looked at."""
        frame = sys._current_frames().get(self._thread)
        caller = None if frame is None or frame.f_code.co_name != "select" else frame.f_back
        return caller is not None and caller.f_code is _RUN_ONCE

    def _answer(self) -> None:
        self._answered = True

    def take_worst(self) -> float:
        """Return the greatest lag since the last call."""
        worst, self.worst = self.worst, self.lag
        return worst

    def stack(self) -> str:
        """Return the stack of the loop's thread: what blocks the loop, while it does not answer."""
        return thread_stack(self._thread, MAX_STACK)


class LagLog:
    """Logs a blocked event loop with its stack: after UNANSWERED_SECONDS, and again more and more rarely.

    name: the worker's name. lost_after: seconds of blockage after which the worker's lease runs out.
    """

    def __init__(self, name: str, watch: LoopWatch, lost_after: float) -> None:
        self._name = name
        self._watch = watch
        self._lost_after = lost_after
        self._next = UNANSWERED_SECONDS
        self._longest = 0.0
        self._given_up = False

    def take(self, lag: float) -> None:
        """Record for how long the loop has not answered."""
        if lag >= self._next:
            self._next = lag * AGAIN_FACTOR
            logger.error(
                "worker %s: the event loop has been blocked for %.1f s; nothing else runs on it. It is at:\n%s",
                self._name,
                lag,
                self._watch.stack(),
            )
        if lag >= self._lost_after and not self._given_up:
            self._given_up = True
            logger.error(
                "worker %s: the event loop has been blocked for %.1f s; the worker lets its lease run out, and others "
                "rescue its jobs",
                self._name,
                lag,
            )
        if lag == 0.0 and self._longest >= UNANSWERED_SECONDS:
            logger.warning("worker %s: the event loop responds again, after %.1f s", self._name, self._longest)
            self._next, self._given_up = UNANSWERED_SECONDS, False
        self._longest = lag
