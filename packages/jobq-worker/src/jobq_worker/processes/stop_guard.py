"""`StopGuard`: ends a process that was asked to stop and does not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from jobq_worker.liveness.loop_watch import UNANSWERED_SECONDS, LoopWatch
from jobq_worker.processes.exits import ExitCode, end_process, say

logger = logging.getLogger("jobq.worker")

STOP_SECONDS: Final = 30.0
"""Time that a stop may take beyond the time for running jobs: they have 2 s to notice it, and settling, deregistering
and closing 5 s each while the storage is unavailable."""


class StopGuard:
    """Ends the process when a stop takes longer than it may; a blocked event loop cannot stop a worker.

    A blocked loop may stay blocked until the time for running jobs is over, or until the second signal. A loop that
    answers has STOP_SECONDS more.

    stop_timeout: time for running jobs, in seconds. end: ends the process; given the code and a function that logs why.
    """

    def __init__(
        self,
        stop_timeout: float,
        watch: LoopWatch,
        *,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[ExitCode, Callable[[], object]], None] = end_process,
    ) -> None:
        self._stop_timeout = stop_timeout
        self._watch = watch
        self._clock = clock
        self._end = end
        self._asked = 0
        self._signal = ""
        self._said = False
        self._ends_at = float("inf")

    def asked(self, signal: str) -> None:
        """Record a request to stop the process. signal: the name of the signal or caller."""
        self._asked += 1
        self._signal = signal
        self._ends_at = self._clock() + (self._stop_timeout if self._asked == 1 else 0.0)

    def check(self) -> None:
        """End the process if it must end. Call it several times a second after `asked`."""
        lag, now = self._watch.tick(), self._clock()
        blocked = lag >= UNANSWERED_SECONDS
        if now >= self._ends_at + (0.0 if blocked else STOP_SECONDS):
            stack = self._watch.stack()
            why = "its event loop is blocked" if blocked else "its stop takes too long"
            self._end(ExitCode.BLOCKED, lambda: self._log_end(why, stack))
        elif blocked and not self._said:
            self._said = True
            stack, left = self._watch.stack(), self._ends_at - now
            say(lambda: self._log_blocked(lag, left, stack))

    def _log_blocked(self, lag: float, left: float, stack: str) -> None:
        logger.warning(
            "%s received, but the event loop has been blocked for %.1f s; a second signal ends the process, or the end "
            "of the stop timeout in %.0f s. The loop is at:\n%s",
            self._signal,
            lag,
            left,
            stack,
        )

    def _log_end(self, why: str, stack: str) -> None:
        logger.critical(
            "%s received, and the worker cannot stop: %s; the process ends with code %d, and its jobs are rescued when "
            "its lease runs out. The loop is at:\n%s",
            self._signal,
            why,
            ExitCode.BLOCKED,
            stack,
        )
